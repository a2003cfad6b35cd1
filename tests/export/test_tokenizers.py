"""A tokenizer of ``spiece.model`` alone, as many checkpoints of T5 have, encodes as
sentencepiece itself does.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import sentencepiece

from export.tokenizers import load_tokenizer
from pipeline.errors import CheckpointError
from tests.conftest import ROOT

TEXTS = ("a red circle moves left", "  two   spaces ", "naïve Ünïcode", "unknown 中文 words")
LOAD = """
import json, sys
from pathlib import Path
from export.tokenizers import load_tokenizer
tokenizer = load_tokenizer(Path(sys.argv[1]))
print(json.dumps([tokenizer.encode(text).ids for text in json.loads(sys.argv[2])]))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer trained on a few words."""
    folder = tmp_path_factory.mktemp("tokenizer")
    text = folder / "words"
    text.write_text(
        "a red circle moves left\nthe blue square moves right on white\nnaive unicode words\n" * 50
    )
    sentencepiece.SentencePieceTrainer.train(
        input=str(text), model_prefix=str(folder / "spiece"), vocab_size=60, hard_vocab_limit=False,
        model_type="unigram", pad_id=0, eos_id=1, unk_id=2, bos_id=-1, minloglevel=2,
    )  # fmt: skip
    config = {
        "tokenizer_class": "T5Tokenizer",
        "extra_ids": 0,
        "eos_token": "</s>",
        "pad_token": "<pad>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def test_spiece_model_alone_is_sufficient(folder: Path) -> None:
    """In a process of its own, as in an export: what was imported before would decide which
    classes parse the model.
    """
    words = [sys.executable, "-c", LOAD, str(folder), json.dumps(TEXTS)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    expected = sentencepiece.SentencePieceProcessor(str(folder / "spiece.model"))
    assert json.loads(done.stdout) == [[*expected.encode(text), 1] for text in TEXTS]


def test_a_folder_without_a_vocabulary_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "T5Tokenizer"}')
    with pytest.raises(
        CheckpointError,
        match=r"holds no vocabulary; it must have one of tokenizer\.json, spiece\.model",
    ):
        load_tokenizer(tmp_path)
