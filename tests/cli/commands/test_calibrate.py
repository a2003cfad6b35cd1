"""``triton-video calibrate`` measures a table with real ranks and stores it beside the model."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.commands.calibrate import PROMPTS, sampling_of
from cli.main import run
from cli.params.commands import CalibrateParams
from cli.params.sources import collect, validate
from pipeline.checkpoint.folder import Checkpoint
from pipeline.families import SamplingParams
from tests.conftest import SHAPES

QUICK = ("--num-inference-steps", "4", "--num-frames", "5", "--height", "32", "--width", "48", "-q")


@pytest.fixture
def shapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> Path:
    monkeypatch.setenv("TRITON_VIDEO_CACHE", str(cache))
    folder = shutil.copytree(SHAPES, tmp_path / "shapes")
    (folder / "step_cache.json").unlink(missing_ok=True)
    return folder


@pytest.mark.ranks
@pytest.mark.export
def test_table_is_written_beside_the_model(shapes: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["calibrate", "--model-path", str(shapes), "--encoder-engine", "torch", *QUICK]
    words += ["--vae-engine", "torch", "--prompts", "a red circle", "--prompts", "a blue square"]
    assert run(words) == 0
    file = shapes / "step_cache.json"
    assert capfd.readouterr().out == f"{file}\n"
    checkpoint = Checkpoint.open(shapes)
    table = checkpoint.step_cache
    assert table is not None
    assert table.source == "triton-video calibrate: 2 videos of 48x32, 5 frames, 4 steps"
    ((positive, negative),) = table.ratios
    assert positive[0] == negative[0] == 1
    assert all(0.5 < ratio < 1.5 for ratio in (*positive, *negative))
    assert len(set(positive[1:])) == 3
    assert positive != negative
    assert checkpoint.info.resolve(SamplingParams(prompt="-", step_cache="2x")).step_cache == "2x"
    # A second run does not replace it unasked, and says so before it measures.
    assert run(words) == 5
    assert "step_cache.json exists; --overwrite replaces it" in capfd.readouterr().err


def test_folder_that_cannot_be_written_is_refused_first(
    shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "none" / "table.json"
    assert run(["calibrate", "--model-path", str(shapes), "--output", str(file), *QUICK]) == 5
    assert f"{file.parent} is not a writable folder" in capsys.readouterr().err


def test_model_with_few_steps_is_refused(
    build_family: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.checkpoints.wan import distil

    fast = distil(build_family("wan2.1-t2v"), tmp_path / "fast")
    assert run(["calibrate", "--model-path", str(fast), "-q"]) == 2
    assert "was distilled to few steps" in capsys.readouterr().err


def test_each_prompt_has_its_own_seed() -> None:
    words = {"prompts": ("one, two", "three"), "seed": "7", "num_inference_steps": "9"}
    videos = sampling_of(validate(collect(words, {}, CalibrateParams), CalibrateParams))
    assert [(video.prompt, video.seed, video.num_inference_steps) for video in videos] == [
        ("one, two", 7, 9),
        ("three", 8, 9),
    ]
    default = sampling_of(validate(collect({}, {}, CalibrateParams), CalibrateParams))
    assert [video.prompt for video in default] == list(PROMPTS)
    variable = {"TRITON_VIDEO_PROMPTS": "a cat, a dog"}
    (only,) = sampling_of(validate(collect({}, variable, CalibrateParams), CalibrateParams))
    assert only.prompt == "a cat, a dog"
