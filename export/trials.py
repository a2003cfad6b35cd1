"""Create and try a checkpoint's scheduler, tokenizers and image processor before a request needs
them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from export.tokenizers import check_tokenizer, load_tokenizer
from pipeline.checkpoint.folder import CONFIG_NAMES, Checkpoint
from pipeline.errors import CheckpointError


def try_scheduler(checkpoint: Checkpoint) -> None:
    """Make the schedule of the default request. Raises ``CheckpointError`` if that fails or it is
    not finite.
    """
    import torch

    from pipeline.diffusion.schedulers import build_scheduler

    steps = checkpoint.info.defaults.num_inference_steps
    if checkpoint.info.defaults.denoising_timesteps:
        return
    file = checkpoint.path / "scheduler" / CONFIG_NAMES["scheduler"]
    try:
        scheduler: Any = build_scheduler(
            checkpoint.classes["scheduler"], checkpoint.configs["scheduler"], None, steps,
            linear_sigmas=checkpoint.family.guidance_embedded,
        )  # fmt: skip
    except Exception as error:
        raise CheckpointError(
            f"{file}: no schedule of {steps} steps can be made: {_line(error)}"
        ) from error
    levels = torch.cat([scheduler.timesteps.float().flatten(), scheduler.sigmas.float().flatten()])
    if len(scheduler.timesteps) != steps or not torch.isfinite(levels).all():
        raise CheckpointError(
            f"{file}: the schedule has steps that are not finite or not {steps} of them"
        )


def try_tokenizers(checkpoint: Checkpoint, vocabularies: Mapping[str, int]) -> None:
    """Load each tokenizer and encode with it; ``vocabularies`` are numbers of ids by text encoder.

    Raises ``CheckpointError``.
    """
    family = checkpoint.family
    longest = family.template_tokens + checkpoint.info.defaults.max_sequence_length
    for part in family.text_encoders:
        assert part.preprocessor is not None, "each text encoder has a tokenizer"
        folder = checkpoint.path / part.preprocessor
        check_tokenizer(load_tokenizer(folder), folder, vocabularies[part.component], longest)


def try_image_processor(checkpoint: Checkpoint) -> None:
    """Prepare an image. Raises ``CheckpointError`` if the image encoder would not accept the
    result.
    """
    encoder = checkpoint.info.image_encoder
    if encoder is None:
        return
    import numpy as np
    from PIL import Image
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    file = checkpoint.path / "image_processor" / CONFIG_NAMES["image_processor"]
    try:
        processor = CLIPImageProcessorPil.from_pretrained(file)
        pixels = np.stack(processor(Image.new("RGB", (96, 64)))["pixel_values"])
    except Exception as error:
        raise CheckpointError(f"{file}: it cannot prepare an image: {_line(error)}") from error
    if pixels.shape != (1, 3, encoder.side, encoder.side):
        raise CheckpointError(
            f"{file} makes pixels {list(pixels.shape[1:])}; "
            f"the image encoder takes {[3, encoder.side, encoder.side]}"
        )


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
