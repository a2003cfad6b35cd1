"""Stage ``tokenizer``: validates a request before any expensive stage runs, and converts its texts
to token ids.

It also decodes and resizes a reference image for the image encoders.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ftfy
import numpy as np
from PIL import Image
from pydantic import ValidationError
from tokenizers import Tokenizer

from pipeline.checkpoint.folder import CONFIG_NAMES
from pipeline.ensemble.tensors import (
    ATTENTION_MASK,
    IMAGE,
    INPUT_IDS,
    INPUT_IDS_2,
    NEGATIVE_ATTENTION_MASK,
    NEGATIVE_INPUT_IDS,
    PIXEL_VALUES,
    Tensor,
)
from pipeline.errors import InputError
from pipeline.families import ModelInfo, SamplingParams, VideoRequest, family_named
from pipeline.media.reference_image import ReferenceImage, decode
from pipeline.settings import StageSettings
from pipeline.validation import first_problem

CLIP_TOKENS = 77  # max positions of CLIP's text encoders


@dataclass(frozen=True)
class TokenizedRequest:
    """A validated request and its tensors by name.

    ``tensors`` are ids int64 (1, length), each with its own length, including the special tokens;
    and for an image ``IMAGE`` uint8 (1, H, W, 3) and ``PIXEL_VALUES`` float32 (1, 3, side, side).
    """

    request: VideoRequest
    tensors: dict[str, np.ndarray]


class TokenizerStage:
    """Loads ``tokenizer.json`` and ``model.json`` from a version folder, and, if the model has
    them, a second tokenizer and the config that prepares images for its image encoder.
    """

    def __init__(self, folder: Path, settings: StageSettings | None = None):
        """Load the files of ``folder``. ``settings`` limit a video to the sizes that the engines
        of the VAE take; repositories of version 0.1 pass none.
        """
        self._settings = settings
        self.info = ModelInfo.load(folder)
        self._family = family_named(self.info.family)
        longest = self._family.template_tokens + self.info.defaults.max_sequence_length
        self._tokenizer = _tokenizer(folder / "tokenizer.json", longest)
        second = folder / "tokenizer_2.json"
        self._second = _tokenizer(second, CLIP_TOKENS) if second.exists() else None
        self._image_processor = _image_processor(folder) if self.info.image_encoder else None

    def run(
        self, values: dict[str, object], *, return_frames: bool, image_file: bytes | None = None
    ) -> TokenizedRequest:
        """Tokenize a request. ``values`` are the fields of ``SamplingParams`` that the caller set.

        Raises ``InputError``.
        """
        params = parse_params(values)
        self.info.check_image(given=image_file is not None)
        begin = decode(image_file) if image_file is not None else None
        request = self.info.resolve(
            params, image=begin.size if begin else None, return_frames=return_frames
        )
        if self._settings:
            self._settings.check_size(request.width, request.height)
        return TokenizedRequest(
            request, self._ids(params) | (self._pixels(begin, request) if begin else {})
        )

    def _ids(self, params: SamplingParams) -> dict[str, np.ndarray]:
        ids = self._with_mask(INPUT_IDS, ATTENTION_MASK, params.prompt)
        if not self._family.guidance_embedded:
            negative = self.info.negative_prompt(params)
            ids |= self._with_mask(NEGATIVE_INPUT_IDS, NEGATIVE_ATTENTION_MASK, negative)
        elif params.negative_prompt:
            raise InputError(
                "negative_prompt", f"has no effect on {self.info.family} models; leave it out"
            )
        if self._second:
            ids[INPUT_IDS_2.name] = _encode(self._second, params.prompt)
        return ids

    def _pixels(self, begin: ReferenceImage, request: VideoRequest) -> dict[str, np.ndarray]:
        """Return the image stretched to the size of the video with a Lanczos filter, as diffusers'
        ``VideoProcessor`` does.
        """
        resized = begin.image.resize((request.width, request.height), Image.Resampling.LANCZOS)
        pixels = {IMAGE.name: np.asarray(resized)[None]}
        if self._image_processor:
            pixels[PIXEL_VALUES.name] = np.stack(
                self._image_processor(begin.image)["pixel_values"]
            ).astype(np.float32)
        return pixels

    def _prompt(self, text: str) -> str:
        template = self._family.prompt_template
        return template.replace("{}", text) if template else clean_prompt(text)

    def _with_mask(self, ids: Tensor, mask: Tensor, text: str) -> dict[str, np.ndarray]:
        found = _encode(self._tokenizer, self._prompt(text))
        return {ids.name: found, mask.name: np.ones_like(found)}


def _tokenizer(file: Path, longest: int) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.enable_truncation(longest)
    tokenizer.no_padding()
    return tokenizer


def _image_processor(folder: Path) -> Any:
    """Load CLIP's image processor from its own ``preprocessor_config.json``.

    transformers imports torch, so this runs only for models that have an image encoder.
    """
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    return CLIPImageProcessorPil.from_pretrained(folder / CONFIG_NAMES["image_processor"])


def _encode(tokenizer: Tokenizer, text: str) -> np.ndarray:
    """Return token ids int64 (1, length). Raises ``InputError`` for a text that the tokenizer
    cannot encode.
    """
    try:
        ids = tokenizer.encode(text).ids
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a Rust panic, as in a regex, is no Exception
        raise InputError("prompt", f"the model's tokenizer cannot encode it: {error}") from error
    return np.array([ids], dtype=np.int64)


def parse_params(values: dict[str, object]) -> SamplingParams:
    """Validate ``values``; the first problem becomes an ``InputError`` that names its field."""
    try:
        return SamplingParams.model_validate(values)
    except ValidationError as error:
        field, message, _ = first_problem(error)
        raise InputError(field or "request", message[:1].lower() + message[1:]) from None


def clean_prompt(text: str) -> str:
    """Clean up a prompt as Wan's pipeline does: repair mojibake, resolve HTML entities and collapse
    white space.
    """
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return re.sub(r"\s+", " ", text).strip()
