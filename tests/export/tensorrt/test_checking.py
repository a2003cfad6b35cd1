"""Graphs are compiled by the real tensorrt-rtx, in a separate process, for GPUs that this
machine does not have.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from export.records import CheckResult
from export.tensorrt import check, require_compiled
from pipeline.errors import CheckpointError, InputError
from tests.export.tensorrt import graphs


def quiet(target: str, percent: int) -> None:
    """Takes progress and does nothing."""


def test_a_good_graph_compiles_for_every_target_with_progress(tmp_path: Path) -> None:
    seen: list[tuple[str, int]] = []
    results = check(
        graphs.good(tmp_path), graphs.record(), ("sm89", "sm120"), lambda *at: seen.append(at)
    )
    assert [(result.target, result.ok, result.findings) for result in results] == [
        ("sm89", True, ()),
        ("sm120", True, ()),
    ]
    assert all(
        result.engine_bytes > 0 and result.activation_bytes is not None for result in results
    )
    assert {target for target, _ in seen} == {"sm89", "sm120"}
    for target in ("sm89", "sm120"):
        percents = [percent for at, percent in seen if at == target]
        assert percents == sorted(set(percents)), "it only grows"
        assert percents[-1] == 100
    assert graphs.files(tmp_path) == ["model.onnx"], "the engines are thrown away"


@pytest.mark.parametrize(
    ("build", "target", "finding"),
    [
        (
            graphs.unsupported,
            "sm89",
            "distinct (Unique): TensorRT has no such operator, or not with these attributes",
        ),
        (graphs.unknown, "sm89", "frob (Frobnicate): TensorRT has no such operator"),
        (
            graphs.mixed,
            "sm89",
            "add_half (Add): ElementWiseOperation SUM must have same input types. But they are",
        ),
        (
            graphs.bf16_resize,
            "sm89",
            "up (Resize): TensorRT has no Resize of bfloat16; cast to float32 around it",
        ),
        (
            graphs.bf16,
            "sm75",
            "Cannot compile for target(s) sm75, because the model contains HW-specific datatypes",
        ),
    ],
)
def test_a_finding_names_the_node_and_the_reason(
    build: Callable[[Path], Path], target: str, finding: str, tmp_path: Path
) -> None:
    (result,) = check(build(tmp_path), graphs.record(), (target,), quiet)
    assert not result.ok
    assert result.engine_bytes == 0
    assert result.findings[0].startswith(finding)
    assert not any(
        noise in text for text in result.findings for noise in ("cudaError", ".cpp:", "\n")
    )


def test_weights_are_read_from_the_checkpoint(tmp_path: Path) -> None:
    onnx = graphs.weights_outside(tmp_path)
    (result,) = check(onnx, graphs.record(), ("sm89",), quiet)
    assert (result.ok, result.findings) == (True, ())
    (tmp_path / "weights.safetensors").unlink()
    (result,) = check(onnx, graphs.record(), ("sm89",), quiet)
    assert not result.ok
    assert result.findings[0].startswith(
        "the weight weight cannot be read: the file beside the graph "
    )


@pytest.mark.parametrize(("low", "opt", "high"), [(4, 2, 8), (4, 8, 6)])
def test_sizes_out_of_order_are_a_finding(low: int, opt: int, high: int, tmp_path: Path) -> None:
    (result,) = check(graphs.good(tmp_path), graphs.record(low, opt, high), ("sm89",), quiet)
    assert not result.ok
    assert "MIN<=OPT<=MAX" in result.findings[0] or "the profile" in result.findings[0]


@pytest.mark.parametrize("target", ["sm90", "sm100", "89", "ada"])
def test_an_unknown_target_lists_the_known_ones(target: str, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=rf"^check: {target} .*sm75, sm80, sm86, sm89, sm120, sm121"
    ) as caught:
        check(graphs.good(tmp_path), graphs.record(), ("sm89", target), quiet)
    assert "build on the GPU machine" in str(caught.value)


def test_a_missing_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("export.tensorrt.targets.is_installed", lambda library: False)
    with pytest.raises(InputError, match=r"tensorrt-rtx is missing; install triton-video\[check\]"):
        check(graphs.good(tmp_path), graphs.record(), ("sm89",), quiet)


def test_a_missing_graph_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"model\.onnx is missing; export"):
        check(tmp_path / "model.onnx", graphs.record(), ("sm89",), quiet)


def test_the_first_failure_fails_an_export_in_one_sentence() -> None:
    good = CheckResult(target="sm89", ok=True, seconds=1, engine_bytes=1)
    bad = CheckResult(
        target="sm75", ok=False, seconds=1, engine_bytes=0, findings=("up (Resize): no", "and more")
    )
    require_compiled("vae_decoder", "next", (good,))
    with pytest.raises(CheckpointError) as caught:
        require_compiled("vae_decoder", "next", (good, bad))
    assert (
        str(caught.value)
        == "the graph next of vae_decoder does not compile for sm75: up (Resize): no"
    )
    assert caught.value.details == "up (Resize): no\nand more"


def test_a_graph_compiles_with_two_profiles(tmp_path: Path) -> None:
    (result,) = check(graphs.good(tmp_path), graphs.turning(), ("sm89",), lambda *_: None)
    assert (result.ok, result.findings) == (True, ())
