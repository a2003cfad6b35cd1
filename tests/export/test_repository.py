"""The cache of rendered repositories: made once, whole or not at all, for each checkpoint and
its settings.
"""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from export import child
from export import repository as module
from export.options import ExportOptions, Flavour
from export.repository import prepare_repository, render_repository
from pipeline.checkpoint.folder import Checkpoint
from pipeline.errors import CheckpointError, OutputError
from pipeline.families.parts import TEXT_ENCODER, VAE_DECODER
from pipeline.settings import StageSettings
from pipeline.system.cache_folder import cache_folder

SHAPES = Path(__file__).resolve().parents[2] / "models" / "shapes"


class Exporter:
    """The slow children replaced by quick ones (`tests.export.quick_part`): what they were asked
    for, how to fail.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    @property
    def calls(self) -> list[str]:
        return sorted(path.name.partition("-")[0] for path in self.folder.glob("*-*"))

    def fail(self, part: str) -> None:
        (self.folder / f"fail.{part}").touch()

    def succeed(self) -> None:
        for file in self.folder.glob("fail.*"):
            file.unlink()


@pytest.fixture
def exporter(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, note_shapes_sound: Callable[[Path], None]
) -> Exporter:
    exporter = Exporter(tmp_path / "exporter")
    exporter.folder.mkdir()
    monkeypatch.setattr(child, "MODULE", "tests.export.quick_part")
    monkeypatch.setenv("QUICK_PART", str(exporter.folder))
    note_shapes_sound(tmp_path / "cache")
    return exporter


PARTS = ["text_encoder", "vae_decoder", "vae_encoder"]


def prepare(
    cache: Path, checkpoint: Path = SHAPES, options: ExportOptions | None = None, **settings: object
) -> Path:
    opened = Checkpoint.open(checkpoint)
    given = StageSettings(checkpoint=str(checkpoint), **settings)
    return prepare_repository(opened, given, lambda text: None, cache / "cache", options)


def leftovers(cache: Path) -> list[Path]:
    return [path for path in (cache / "cache").rglob(".*") if path.is_dir()]


def test_a_second_run_uses_the_cache(exporter: Exporter, tmp_path: Path) -> None:
    first, second = prepare(tmp_path), prepare(tmp_path)
    assert first == second
    assert exporter.calls == PARTS
    assert sorted(path.name for path in first.iterdir()) == [
        "control", "dit", "text_encoder", "tokenizer", "vae_decoder", "vae_encoder", "video",
    ]  # fmt: skip
    assert (first / "text_encoder/1/model.onnx").read_text() == "model.onnx of text_encoder"
    assert (first / "video/1").is_dir()
    assert leftovers(tmp_path) == []


def test_progress_counts_the_parts_to_export(exporter: Exporter, tmp_path: Path) -> None:
    told: list[str] = []
    checkpoint = Checkpoint.open(SHAPES)
    settings = StageSettings(checkpoint=str(SHAPES))
    prepare_repository(checkpoint, settings, told.append, tmp_path / "cache")
    assert re.fullmatch(r"exporting 3 parts with \S+ MB of weights to ONNX, once per .*", told[0])
    assert "part 1 of 3: text_encoder: starting" in told
    ends = [re.sub(r"\d+", "N", line) for line in told if "exported after" in line]
    assert sorted(ends) == [f"part N of N: {part}: exported after N s" for part in PARTS]
    told.clear()
    (part,) = (p for p in (tmp_path / "cache" / "parts").glob("vae_decoder-*") if p.is_dir())
    shutil.rmtree(part)
    shutil.rmtree(tmp_path / "cache" / "repositories")
    prepare_repository(checkpoint, settings, told.append, tmp_path / "cache")
    assert "part 1 of 1: vae_decoder: starting" in told


def test_other_settings_render_another_repository_of_the_same_parts(
    exporter: Exporter, tmp_path: Path
) -> None:
    assert prepare(tmp_path) != prepare(tmp_path, precision="bf16")
    assert exporter.calls == PARTS


def test_the_flavour_of_the_settings_is_rendered(exporter: Exporter, tmp_path: Path) -> None:
    python, onnxruntime = prepare(tmp_path), prepare(tmp_path, flavour="onnxruntime")
    for repository, backend in ((python, "python"), (onnxruntime, "onnxruntime")):
        config = (repository / "text_encoder" / "config.pbtxt").read_text()
        assert f'backend: "{backend}"' in config
    assert exporter.calls == PARTS


def test_an_option_remakes_only_the_parts_it_changes(exporter: Exporter, tmp_path: Path) -> None:
    prepare(tmp_path)
    prepare(tmp_path, options=ExportOptions(vae_precision="bf16"))
    assert exporter.calls == sorted([*PARTS, *PARTS[1:]])


def test_parts_depend_on_the_content_of_the_checkpoint(exporter: Exporter, tmp_path: Path) -> None:
    prepare(tmp_path)
    copy = tmp_path / "copy"
    shutil.copytree(SHAPES, copy)
    prepare(tmp_path, copy)
    assert exporter.calls == PARTS
    weights = copy / "vae" / "diffusion_pytorch_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    prepare(tmp_path, copy)
    assert exporter.calls == sorted([*PARTS, *PARTS[1:]])


def test_two_processes_at_once_export_once(exporter: Exporter, tmp_path: Path) -> None:
    made: list[Path] = []
    threads = [threading.Thread(target=lambda: made.append(prepare(tmp_path))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 1
    assert len(made) == 4
    assert exporter.calls == PARTS


def test_after_a_failure_the_next_run_makes_only_missing_parts(
    exporter: Exporter, tmp_path: Path
) -> None:
    exporter.fail("vae_decoder")
    with pytest.raises(
        CheckpointError, match=r"^the vae_decoder of .* cannot be exported: the test made it fail$"
    ):
        prepare(tmp_path)
    assert leftovers(tmp_path) == []
    done = [
        path.name.partition("-")[0]
        for path in (tmp_path / "cache/parts").glob("*")
        if path.is_dir()
    ]
    before = exporter.calls
    exporter.succeed()
    assert prepare(tmp_path).is_dir()
    assert exporter.calls == sorted([*before, *(set(PARTS) - set(done))])


def test_remains_of_a_killed_run_are_removed(exporter: Exporter, tmp_path: Path) -> None:
    done = prepare(tmp_path)
    part = next(path for path in (tmp_path / "cache/parts").glob("vae_decoder*") if path.is_dir())
    stale = part.with_name(f".{part.name}-killed")
    part.rename(stale)
    done.rename(tmp_path / "moved")
    prepare(tmp_path)
    assert not stale.exists()
    assert exporter.calls == sorted([*PARTS, "vae_decoder"])


def test_a_part_edited_through_a_repository_is_remade(exporter: Exporter, tmp_path: Path) -> None:
    graph = prepare(tmp_path) / "text_encoder/1/model.onnx"
    with graph.open("r+b") as file:
        file.write(b"X")
    again = prepare(tmp_path, precision="bf16") / "text_encoder/1/model.onnx"
    assert again.read_text() == "model.onnx of text_encoder"
    assert exporter.calls == ["text_encoder", *PARTS]


def test_the_cache_folder_follows_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TRITON_VIDEO_CACHE", str(tmp_path / "a"))
    assert cache_folder() == tmp_path / "a"
    monkeypatch.delenv("TRITON_VIDEO_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
    assert cache_folder() == tmp_path / "b" / "triton-video"


def test_the_error_without_a_home_folder_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TRITON_VIDEO_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 2**31 - 7)  # of no entry in the password database
    with pytest.raises(OutputError, match="set TRITON_VIDEO_CACHE to a writable folder"):
        cache_folder()


@pytest.mark.parametrize(
    ("flavour", "encoder", "decoder"),
    [
        ("python", {"model.onnx", "model.py"}, {"first.onnx", "next.onnx", "model.py"}),
        ("onnxruntime", {"model.onnx"}, {"first.onnx", "next.onnx", "model.py"}),
        (
            "tensorrt",
            {"model.plan", "model.plan.json"},
            {"first.plan", "first.plan.json", "next.plan", "model.py"},
        ),
    ],
)
def test_a_stage_has_only_files_its_flavour_runs(
    flavour: Flavour, encoder: set, decoder: set, tmp_path: Path
) -> None:
    made = {
        TEXT_ENCODER: [
            "model.onnx",
            "model.plan",
            "model.plan.json",
            "tokenizer.json",
            "component.json",
        ],
        VAE_DECODER: [
            "first.onnx",
            "next.onnx",
            "first.plan",
            "first.plan.json",
            "next.plan",
            "component.json",
        ],
    }
    parts = {part: tmp_path / part.name for part in made}
    for part, files in made.items():
        parts[part].mkdir()
        for file in files:
            if flavour == "tensorrt" or ".plan" not in file:
                (parts[part] / file).touch()
    output = tmp_path / "repository"
    output.mkdir()
    render_repository(
        Checkpoint.open(SHAPES), StageSettings(checkpoint=str(SHAPES)), parts, output, flavour
    )
    described = {"model.json", "stage.json"}
    for stage, files in (("text_encoder", encoder), ("vae_decoder", decoder)):
        found = {file.name for file in (output / stage / "1").iterdir()}
        assert found - described == files
        assert bool(found & described) == ("model.py" in files), "settings are for our own code"


class FakeCheck:
    """A check with the ``error`` as its result, which counts how often it was finished."""

    def __init__(self, error: CheckpointError | None):
        self.error, self.finished = error, 0

    def finish(self) -> None:
        self.finished += 1
        if self.error:
            raise self.error


def prepare_unknown(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    error: CheckpointError | None,
    **settings: object,
) -> tuple[FakeCheck, list[object]]:
    """Prepare a checkpoint of unknown soundness; return its check and what was postponed."""
    check, postponed = FakeCheck(error), list[object]()
    monkeypatch.setattr(module, "begin_check", lambda *_, **__: check)
    given = StageSettings(checkpoint=str(SHAPES), **settings)
    prepare_repository(
        Checkpoint.open(SHAPES), given, lambda text: None, tmp_path / "cache",
        postpone=postponed.append,
    )  # fmt: skip
    return check, postponed


IN_TORCH = {"encoder_engine": "torch", "vae_engine": "torch"}


def test_a_check_is_postponed_where_no_weights_are_exported(
    exporter: Exporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check, postponed = prepare_unknown(monkeypatch, tmp_path, None, **IN_TORCH)
    assert (postponed, check.finished) == ([check], 0)
    check, postponed = prepare_unknown(monkeypatch, tmp_path, None)
    assert (postponed, check.finished) == ([], 1)


def test_nothing_is_exported_from_weights_that_are_not_sound(
    exporter: Exporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CheckpointError, match="not sound"):
        prepare_unknown(monkeypatch, tmp_path, CheckpointError("not sound"))
    assert exporter.calls == []


def test_the_reason_of_a_postponed_check_comes_first(
    exporter: Exporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exporter.fail("text_encoder")
    with pytest.raises(CheckpointError, match="not sound"):
        prepare_unknown(monkeypatch, tmp_path, CheckpointError("not sound"), **IN_TORCH)
    with pytest.raises(CheckpointError, match="the text_encoder of"):
        prepare_unknown(monkeypatch, tmp_path, None, **IN_TORCH)
