"""The cache of rendered repositories: made once, whole or not at all, for each checkpoint and its settings."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from export import repository as module
from export.repository import cache_folder, prepare_repository
from pipeline.checkpoint import Checkpoint
from pipeline.errors import CheckpointError
from pipeline.stages.settings import StageSettings

SHAPES = Path(__file__).resolve().parents[2] / "models" / "shapes"


class Exporter:
    """Stands in for the slow export: writes the files it would, and counts."""

    def __init__(self) -> None:
        self.calls = 0
        self.fails = False

    def __call__(self, checkpoint: Path, output: Path, on_progress: Callable[[str], None]) -> None:
        self.calls += 1
        for name in ("text_encoder/tokenizer.json", "text_encoder/model.onnx", "vae_decoder/first.onnx"):
            (output / name).parent.mkdir(exist_ok=True)
            (output / name).write_text(name)
        time.sleep(0.05)  # long enough for two callers to meet
        if self.fails:
            raise CheckpointError("cannot be exported")


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> Exporter:
    exporter = Exporter()
    monkeypatch.setattr(module, "export_graphs", exporter)
    return exporter


def prepare(cache: Path, **settings: object) -> Path:
    checkpoint = Checkpoint.open(SHAPES)
    return prepare_repository(checkpoint, StageSettings(checkpoint=str(SHAPES), **settings), lambda text: None, cache)


def leftovers(cache: Path) -> list[Path]:
    return [path for path in cache.rglob(".*") if path.is_dir()]


def test_the_second_time_it_is_there(exporter: Exporter, tmp_path: Path) -> None:
    first, second = prepare(tmp_path), prepare(tmp_path)
    assert first == second
    assert exporter.calls == 1
    assert sorted(path.name for path in first.iterdir()) == [
        "control", "dit", "text_encoder", "tokenizer", "vae_decoder", "video",
    ]  # fmt: skip
    assert (first / "text_encoder/1/model.onnx").read_text() == "text_encoder/model.onnx"
    assert (first / "video/1").is_dir()
    assert leftovers(tmp_path) == []


def test_other_settings_are_another_repository_of_the_same_graphs(exporter: Exporter, tmp_path: Path) -> None:
    assert prepare(tmp_path) != prepare(tmp_path, precision="bf16")
    assert exporter.calls == 1


def test_two_at_once_export_once(exporter: Exporter, tmp_path: Path) -> None:
    made: list[Path] = []
    threads = [threading.Thread(target=lambda: made.append(prepare(tmp_path))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 1
    assert len(made) == 4
    assert exporter.calls == 1


def test_a_failed_export_leaves_nothing_and_the_next_run_goes_on(exporter: Exporter, tmp_path: Path) -> None:
    exporter.fails = True
    with pytest.raises(CheckpointError):
        prepare(tmp_path)
    assert leftovers(tmp_path) == []
    exporter.fails = False
    assert prepare(tmp_path).is_dir()


def test_what_a_killed_run_left_is_swept(exporter: Exporter, tmp_path: Path) -> None:
    done = prepare(tmp_path)
    graphs = next(path for path in (tmp_path / "graphs").iterdir() if path.is_dir())
    stale = graphs.with_name(f".{graphs.name}-killed")
    graphs.rename(stale)
    done.rename(tmp_path / "moved")
    prepare(tmp_path)
    assert not stale.exists()
    assert exporter.calls == 2


def test_where_the_cache_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRITON_VIDEO_CACHE", str(tmp_path / "a"))
    assert cache_folder() == tmp_path / "a"
    monkeypatch.delenv("TRITON_VIDEO_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
    assert cache_folder() == tmp_path / "b" / "triton-video"
