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
from pipeline.spec import ModelInfo, SamplingParams, VideoRequest, family_named
from pipeline.tensors import ATTENTION_MASK, INPUT_IDS, INPUT_IDS_2

CLIP_TOKENS = 77  # the most that CLIP's text encoders have positions for


@dataclass(frozen=True)
class TokenizedRequest:
    """``ids`` are int64 (1, length) by the name of their tensor; lengths differ, and a text's special tokens are in."""

    request: VideoRequest
    ids: dict[str, np.ndarray]


class TokenizerStage:
    """Loads ``tokenizer.json``, where there is one ``tokenizer_2.json``, and ``model.json`` from a version folder."""

    def __init__(self, folder: Path):
        self.info = ModelInfo.load(folder)
        self._family = family_named(self.info.family)
        longest = self._family.template_tokens + self.info.defaults.max_sequence_length
        self._tokenizer = _tokenizer(folder / "tokenizer.json", longest)
        second = folder / "tokenizer_2.json"
        self._second = _tokenizer(second, CLIP_TOKENS) if second.exists() else None

    def run(self, values: dict[str, object], *, return_frames: bool) -> TokenizedRequest:
        """``values`` are the fields of ``SamplingParams`` that the caller gave. Raises ``InputError``."""
        params = parse_params(values)
        request = self.info.resolve(params, return_frames=return_frames)
        ids = self._with_mask("", self._prompt(params.prompt))
        if not self._family.guidance_embedded:
            ids |= self._with_mask("NEGATIVE_", self._prompt(self.info.negative_prompt(params)))
        elif params.negative_prompt:
            raise InputError("negative_prompt", f"has no effect on {self.info.family} models; leave it out")
        if self._second:
            ids[INPUT_IDS_2.name] = _encode(self._second, params.prompt)
        return TokenizedRequest(request, ids)

    def _prompt(self, text: str) -> str:
        template = self._family.prompt_template
        return template.replace("{}", text) if template else clean_prompt(text)

    def _with_mask(self, prefix: str, text: str) -> dict[str, np.ndarray]:
        ids = _encode(self._tokenizer, text)
        return {f"{prefix}{INPUT_IDS.name}": ids, f"{prefix}{ATTENTION_MASK.name}": np.ones_like(ids)}


def _tokenizer(file: Path, longest: int) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.enable_truncation(longest)
    tokenizer.no_padding()
    return tokenizer


def _encode(tokenizer: Tokenizer, text: str) -> np.ndarray:
    return np.array([tokenizer.encode(text).ids], dtype=np.int64)


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
