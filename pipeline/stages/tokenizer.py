"""Stage ``tokenizer``: checks a request before anything costly runs, and turns its texts into token ids."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from pathlib import Path

import ftfy
import numpy as np
from pydantic import ValidationError
from tokenizers import Tokenizer

from pipeline.errors import InputError
from pipeline.spec import ModelInfo, SamplingParams, VideoRequest


@dataclass(frozen=True)
class TokenizedRequest:
    """Token ids and masks are int64 (1, length); lengths differ, and the end-of-sequence token is in."""

    request: VideoRequest
    input_ids: np.ndarray
    attention_mask: np.ndarray
    negative_input_ids: np.ndarray
    negative_attention_mask: np.ndarray


class TokenizerStage:
    """Loads ``tokenizer.json`` and ``model.json`` from a stage's version folder."""

    def __init__(self, folder: Path):
        self.info = ModelInfo.load(folder)
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(self.info.defaults.max_sequence_length)
        self._tokenizer.no_padding()

    def run(self, values: dict[str, object], *, return_frames: bool) -> TokenizedRequest:
        """``values`` are the fields of ``SamplingParams`` that the caller gave. Raises ``InputError``."""
        params = parse_params(values)
        request = self.info.resolve(params, return_frames=return_frames)
        ids, mask = self._encode(params.prompt)
        negative_ids, negative_mask = self._encode(self.info.negative_prompt(params))
        return TokenizedRequest(request, ids, mask, negative_ids, negative_mask)

    def _encode(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        ids = np.array([self._tokenizer.encode(clean_prompt(text)).ids], dtype=np.int64)
        return ids, np.ones_like(ids)


def parse_params(values: dict[str, object]) -> SamplingParams:
    """Validate ``values``; the first thing wrong becomes an ``InputError`` that names its field."""
    try:
        return SamplingParams.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "request"
        raise InputError(field, first["msg"][:1].lower() + first["msg"][1:]) from None


def clean_prompt(text: str) -> str:
    """The clean-up Wan's pipeline gives a prompt: mojibake repaired, HTML entities resolved, white space folded."""
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return re.sub(r"\s+", " ", text).strip()
