"""Stage ``tokenizer``: validates a request before any expensive stage runs, and converts its texts
to token ids.

It also decodes and resizes images for the image encoders, and checks that a video can be decoded.
"""

from __future__ import annotations

import html
import re
from dataclasses import astuple, dataclass
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
    LAST_IMAGE,
    NEGATIVE_ATTENTION_MASK,
    NEGATIVE_INPUT_IDS,
    PIXEL_VALUES,
    SOURCE,
    Tensor,
)
from pipeline.errors import InputError
from pipeline.families import Inputs, ModelInfo, SamplingParams, VideoRequest, family_named
from pipeline.settings import StageSettings
from pipeline.stages.inputs import ReadInputs
from pipeline.validation import first_problem

CLIP_TOKENS = 77  # max positions of CLIP's text encoders


@dataclass(frozen=True)
class TokenizedRequest:
    """A validated request and its tensors by name.

    ``tensors`` are ids int64 (1, length), each with its own length, including the special tokens;
    and for images ``IMAGE`` and ``LAST_IMAGE``, uint8 (T, H, W, 3), and ``PIXEL_VALUES``, float32
    (images, 3, side, side).
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
        self,
        values: dict[str, object],
        *,
        return_frames: bool,
        inputs: Inputs | None = None,
        image_file: bytes | None = None,
    ) -> TokenizedRequest:
        """Tokenize a request. ``values`` are the fields of ``SamplingParams`` that the caller set.
        Repositories that were rendered before a request had other files pass an ``image_file``.

        Raises ``InputError``.
        """
        params, inputs = parse_params(values), inputs or Inputs(image=image_file)
        begin, end, video = (file is not None for file in astuple(inputs))
        self.info.check_inputs(params.strength, image=begin, last_frame=end, video=video)
        files = ReadInputs.of(inputs)
        request = self.info.resolve(
            params,
            image=files.image.size if files.image else None,
            last_frame=end,
            video=files.clip,
            return_frames=return_frames,
        )
        if self._settings:
            self._settings.check_size(request.width, request.height)
        return TokenizedRequest(request, self._ids(params) | self._pixels(files, request))

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

    def _pixels(self, files: ReadInputs, request: VideoRequest) -> dict[str, np.ndarray]:
        """Return the images stretched to the size of the video with a Lanczos filter, as diffusers'
        ``VideoProcessor`` does, and the video's file.
        """
        size = request.width, request.height
        begin, end = files.first_images(request), files.last_image
        pixels = {
            tensor.name: np.stack([_resized(image, size) for image in images])
            for tensor, images in ((IMAGE, begin), (LAST_IMAGE, end))
            if images
        }
        if self._image_processor and begin:
            processed = self._image_processor([*begin[-1:], *end])["pixel_values"]
            pixels[PIXEL_VALUES.name] = np.stack(processed).astype(np.float32)
        if files.video is not None:
            pixels[SOURCE.name] = np.array([files.video], dtype=np.object_)
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


def _resized(image: Image.Image, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(image.resize(size, Image.Resampling.LANCZOS))


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
