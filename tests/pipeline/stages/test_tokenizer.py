"""A text that makes a model's tokenizer fail is the caller's error, and the stage survives."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pipeline.checkpoint.folder import Checkpoint
from pipeline.errors import InputError
from pipeline.settings import StageSettings
from pipeline.stages.tokenizer import TokenizerStage
from tests.conftest import SHAPES


def test_a_panic_of_the_tokenizer_raises_input_error(tmp_path: Path) -> None:
    """The regex engine stops a pattern that backtracks endlessly, with an exception that is not an
    `Exception`.
    """
    made = json.loads((SHAPES / "tokenizer/tokenizer.json").read_text())
    pattern = {
        "type": "Split",
        "pattern": {"Regex": "(a+)+b"},
        "behavior": "Isolated",
        "invert": False,
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps({**made, "pre_tokenizer": pattern}))
    Checkpoint.open(SHAPES).info.save(tmp_path)
    stage = TokenizerStage(tmp_path)
    with pytest.raises(
        InputError, match=r"^prompt: the model's tokenizer cannot encode it: .*retry-limit"
    ):
        stage.run({"prompt": "a" * 5000}, return_frames=False)
    assert stage.run({"prompt": "a red circle"}, return_frames=False).tensors["INPUT_IDS"].size


def test_a_size_that_no_engine_takes_is_refused_before_any_step(tmp_path: Path) -> None:
    shutil.copyfile(SHAPES / "tokenizer/tokenizer.json", tmp_path / "tokenizer.json")
    Checkpoint.open(SHAPES).info.save(tmp_path)
    settings = StageSettings(checkpoint=str(SHAPES), flavour="tensorrt", engine_max_pixels=4096)
    stage = TokenizerStage(tmp_path, settings)
    with pytest.raises(InputError, match=r"^width: 80x64 .*--engine-max-pixels 5120"):
        stage.run({"prompt": "p", "width": 80, "height": 64}, return_frames=False)
    stage.run({"prompt": "p", "width": 64, "height": 64}, return_frames=False)
