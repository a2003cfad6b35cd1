"""What an export does with a graph that it has captured."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from export.options import ExportOptions
from export.tensorrt import check_and_build, compilers
from export.tensorrt.targets import gpu_target
from pipeline.errors import CheckpointError, InputError
from pipeline.families.parts import TEXT_ENCODER, VAE_DECODER, Part
from tests.export.tensorrt import graphs


def compiled(folder: Path, options: ExportOptions, say=lambda line: None):
    return check_and_build(graphs.record(), VAE_DECODER, folder, options, say)


def test_checks_are_recorded_and_progress_is_reported_by_tenths(tmp_path: Path) -> None:
    graphs.good(tmp_path)
    said: list[str] = []
    record = compiled(tmp_path, ExportOptions(check=("sm80", "sm89")), said.append)
    assert [(check.target, check.ok) for check in record.checks] == [("sm80", True), ("sm89", True)]
    assert record.plan is None
    assert said[-1] == "compiling model for sm89: 100 %"
    assert len(said) == len(set(said)) <= 22


def test_a_graph_that_does_not_compile_fails_the_export(tmp_path: Path) -> None:
    graphs.unsupported(tmp_path)
    with pytest.raises(
        CheckpointError,
        match=r"^the graph model of vae_decoder does not compile for sm89: distinct ",
    ):
        compiled(tmp_path, ExportOptions(check=("sm89",)))


def test_nothing_is_compiled_unless_requested(tmp_path: Path) -> None:
    graphs.unsupported(tmp_path)
    record = compiled(tmp_path, ExportOptions())
    assert (record.checks, record.plan) == ((), None)


@pytest.mark.skipif(gpu_target() is not None, reason="this machine has a GPU")
def test_the_flavour_tensorrt_needs_a_gpu(tmp_path: Path) -> None:
    graphs.good(tmp_path)
    with pytest.raises(InputError, match=r"^flavour: tensorrt builds on the GPU that serves, "):
        compiled(tmp_path, ExportOptions(flavour="tensorrt"))


@pytest.mark.parametrize(
    ("part", "budget", "tf32"), [(VAE_DECODER, 9, True), (TEXT_ENCODER, None, False)]
)
def test_engines_of_the_vae_stream_weights_and_use_tf32(
    part: Part, budget: int | None, tf32: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs.good(tmp_path)
    monkeypatch.setenv("TRITON_VIDEO_CACHE", str(tmp_path / "cache"))
    asked: list[dict] = []
    monkeypatch.setitem(
        check_and_build.__globals__, "build", lambda *_, **options: asked.append(options)
    )
    options = ExportOptions(flavour="tensorrt", weight_streaming_bytes=9)
    record = check_and_build(graphs.record(), part, tmp_path, options, lambda line: None)
    assert record.plan == "model.plan"
    assert [(options["weight_bytes"], options["tf32"]) for options in asked] == [(budget, tf32)]


def test_engines_are_built_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graphs.good(tmp_path)
    monkeypatch.setenv("TRITON_VIDEO_CACHE", str(tmp_path / "cache"))
    running, most = [], []

    def build(*_: object, **__: object) -> None:
        running.append(1)
        most.append(len(running))
        time.sleep(0.05)
        running.pop()

    monkeypatch.setitem(check_and_build.__globals__, "build", build)
    asked = (graphs.record(), VAE_DECODER, tmp_path, ExportOptions(flavour="tensorrt"), print)
    with ThreadPoolExecutor(3) as pool:
        for made in [pool.submit(check_and_build, *asked) for _ in range(3)]:
            assert made.result().plan == "model.plan"
    assert most == [1, 1, 1]


def test_the_compiler_is_part_of_the_cache_key() -> None:
    assert compilers(ExportOptions()) == ()
    (checker,) = compilers(ExportOptions(check=("sm89",)))
    assert checker.startswith("tensorrt_rtx 1.")


def test_an_engine_is_cached_by_version_and_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"installed_version": "10.13.3.9", "gpu_target": "sm90", "gpu_name": "NVIDIA H100 PCIe"}
    words = set()
    for changed in ({}, *({name: "another"} for name in there)):
        for name, value in (there | changed).items():
            monkeypatch.setitem(compilers.__globals__, name, lambda *_, value=value: value)
        words.add(compilers(ExportOptions(flavour="tensorrt")))
    assert len(words) == 4
    assert ("tensorrt 10.13.3.9 sm90 NVIDIA H100 PCIe",) in words
