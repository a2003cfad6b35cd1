"""Load a checkpoint's tokenizer with the ``tokenizers`` library, and check that it is sound."""

from __future__ import annotations

import json
import sys
from math import prod
from pathlib import Path
from typing import Any

from pipeline.checkpoint.regular_files import nested
from pipeline.errors import CheckpointError

VOCABULARIES = ("tokenizer.json", "spiece.model", "tokenizer.model", "vocab.json")
PROBES = (
    "a",
    " ",
    "\n",
    "aA1 .,",
    "1",
    "é",
    "中",
    "\N{PILE OF POO}",
    "<pad>",
    "{}()[]",
    "_-",
    "\u0301",
)
MAX_GROWTH = 64
PROBE_CHARACTERS = 32_000  # as many as a prompt may have


def load_tokenizer(folder: Path) -> Any:
    """Return the ``tokenizers.Tokenizer`` of a checkpoint's tokenizer folder, built from
    ``spiece.model`` if the folder has nothing else.

    No code of the checkpoint is run. Raises ``CheckpointError`` when it cannot be loaded.
    """
    from transformers import AutoTokenizer

    if not any((folder / name).exists() for name in VOCABULARIES):
        # transformers would invent a tokenizer of a few tokens.
        raise CheckpointError(
            f"{folder} holds no vocabulary; it must have one of {', '.join(VOCABULARIES)}"
        )
    _mend_sentencepiece()
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CheckpointError(
            f"{folder} holds no tokenizer that can be loaded: {reason[:300]}"
        ) from error
    return tokenizer.backend_tokenizer


def check_tokenizer(tokenizer: Any, folder: Path, vocabulary: int, longest: int) -> None:
    """Encode texts as long as the longest prompt. ``vocabulary`` is the number of rows of the text
    encoder's embedding.

    Raises ``CheckpointError`` for ids that the encoder does not have, for a normalizer that makes
    texts many times as long, and for a tokenizer that fails. The caller limits time and memory.
    """
    highest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=0)
    if highest >= vocabulary:
        raise CheckpointError(
            f"{folder} has the token {highest}; its text encoder has {vocabulary} (vocab_size)"
        )
    if _growth(json.loads(tokenizer.to_str()).get("normalizer")) > MAX_GROWTH:
        raise CheckpointError(
            f"{folder} has a normalizer that makes a text more than {MAX_GROWTH} times as long"
        )
    try:
        tokenizer.enable_truncation(longest)
        lengths = [
            len(tokenizer.encode(probe * (PROBE_CHARACTERS // len(probe))).ids) for probe in PROBES
        ]
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of Rust is no Exception
        raise CheckpointError(
            f"{folder} cannot encode a text: {' '.join(str(error).split())[:300]}"
        ) from error
    if not lengths[0]:
        raise CheckpointError(f"{folder} makes no tokens from a text")


def _growth(normalizer: Any) -> int:
    """Return how many times longer the replacements of a normalizer may make a text."""
    contents = [
        found
        for _, key, found in nested(normalizer)
        if key in ("content", "prepend") and isinstance(found, str)
    ]
    return prod(max(1, len(content)) for content in contents)


def _mend_sentencepiece() -> None:
    """Read ``spiece.model`` with the message types that transformers contains.

    Those of sentencepiece are compiled for a newer protobuf than tritonclient allows, and importing
    them fails.
    """
    name = "sentencepiece.sentencepiece_model_pb2"
    if name not in sys.modules:
        from transformers.utils import sentencepiece_model_pb2_new

        sys.modules[name] = sentencepiece_model_pb2_new
