"""Every tensor that crosses a stage border: name, data type and shape, declared once.

The rendered configs, the stages' adapters and the client all read this table, so that they cannot
disagree.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pipeline.families import ImageEncoder, ModelInfo


@dataclass(frozen=True)
class Tensor:
    """``datatype`` is Triton's wire name; ``-1`` in ``dims`` is any size."""

    name: str
    datatype: str
    dims: tuple[int, ...]
    optional: bool = False


# The parameter of the ensemble's config that holds the served model's description (``ModelInfo`` as
# JSON), so that a client that has nothing but a URL knows what can be made.
MODEL_PARAMETER = "model"

SAMPLING = (
    Tensor("PROMPT", "BYTES", (1,)),
    Tensor("NEGATIVE_PROMPT", "BYTES", (1,), optional=True),
    Tensor("HEIGHT", "INT32", (1,), optional=True),
    Tensor("WIDTH", "INT32", (1,), optional=True),
    Tensor("NUM_FRAMES", "INT32", (1,), optional=True),
    Tensor("FPS", "INT32", (1,), optional=True),
    Tensor("NUM_INFERENCE_STEPS", "INT32", (1,), optional=True),
    Tensor("GUIDANCE_SCALE", "FP32", (1,), optional=True),
    Tensor("GUIDANCE_SCALE_2", "FP32", (1,), optional=True),
    Tensor("FLOW_SHIFT", "FP32", (1,), optional=True),
    Tensor("SEED", "INT64", (1,), optional=True),
)
"""One tensor per field of ``SamplingParams``, in upper case."""

INPUT_REFERENCE = Tensor("INPUT_REFERENCE", "BYTES", (1,), optional=True)
"""The file of the picture that a video begins from."""

RETURN_FRAMES = Tensor("RETURN_FRAMES", "BOOL", (1,), optional=True)

REQUEST = Tensor("REQUEST", "BYTES", (1,))
"""A ``VideoRequest`` as JSON: the checked and completed request that the stages hand on."""

INPUT_IDS = Tensor("INPUT_IDS", "INT64", (-1, -1))
ATTENTION_MASK = Tensor("ATTENTION_MASK", "INT64", (-1, -1))
NEGATIVE_INPUT_IDS = Tensor("NEGATIVE_INPUT_IDS", "INT64", (-1, -1))
NEGATIVE_ATTENTION_MASK = Tensor("NEGATIVE_ATTENTION_MASK", "INT64", (-1, -1))

INPUT_IDS_2 = Tensor("INPUT_IDS_2", "INT64", (-1, -1))
"""The prompt's tokens for the second text encoder, of models that have one."""

PICTURE = Tensor("PICTURE", "UINT8", (1, -1, -1, 3))
"""(1, H, W, 3): the reference picture in the size of the video."""

STAGE = Tensor("STAGE", "BYTES", (1,))
PROGRESS = Tensor("PROGRESS", "INT32", (2,))
"""[steps done, steps in all] of the stage that ``STAGE`` names."""

VIDEO = Tensor("VIDEO", "BYTES", (1,))
"""The MP4 file, in the last response only."""
THUMBNAIL = Tensor("THUMBNAIL", "BYTES", (1,))
SPRITESHEET = Tensor("SPRITESHEET", "BYTES", (1,))
"""WebP files, beside the video; `pipeline.media.previews` says what they show."""
FRAMES = Tensor("FRAMES", "UINT8", (-1, -1, -1, 3))
"""(T, H, W, 3), in the last response and only when ``RETURN_FRAMES`` is true."""
RESULT = Tensor("RESULT", "BYTES", (1,))
"""The ``VideoRequest`` that was made, as JSON, beside the video: it tells the seed and the size."""

OUTPUTS = (STAGE, PROGRESS, VIDEO, THUMBNAIL, SPRITESHEET, FRAMES, RESULT)
"""What the ensemble answers with, all of it made by its last stage."""

ACTION = Tensor("ACTION", "BYTES", (1,))
JOB_ID = Tensor("JOB_ID", "BYTES", (1,), optional=True)
TOKEN = Tensor("TOKEN", "BYTES", (1,), optional=True)
"""The secret of `pipeline.triton.control_token`; needed where Triton listens on TCP."""
ANSWER = Tensor("ANSWER", "BYTES", (1,))


def prompt_embeds(text_dim: int, name: str = "PROMPT_EMBEDS") -> Tensor:
    return Tensor(name, "FP32", (-1, -1, text_dim))


def pooled_embeds(pooled_dim: int) -> Tensor:
    return Tensor("POOLED_EMBEDS", "FP32", (-1, pooled_dim))


def pixel_values(encoder: ImageEncoder) -> Tensor:
    """The reference picture as the image encoder takes it: cut square and normalised."""
    return Tensor("PIXEL_VALUES", "FP32", (-1, 3, encoder.side, encoder.side))


def image_embeds(encoder: ImageEncoder) -> Tensor:
    return Tensor("IMAGE_EMBEDS", "FP32", (-1, encoder.tokens, encoder.dim))


def picture_latents(channels: int) -> Tensor:
    """Normalised latents of the picture: its own, or those of a whole clip that begins with it
    and goes on in grey.
    """
    return Tensor("PICTURE_LATENTS", "FP32", (1, channels, -1, -1, -1))


def conditions(info: ModelInfo) -> tuple[Tensor, ...]:
    """What ``dit`` takes beside the request: embeddings and latents of as many kinds as the
    model has encoders.
    """
    embeds = prompt_embeds(info.text_dim)
    if info.pooled_dim:
        return embeds, pooled_embeds(info.pooled_dim)
    seen = (image_embeds(info.image_encoder),) if info.image_encoder else ()
    encoded = (
        (as_optional(picture_latents(info.latent_channels), info),) if info.takes_picture else ()
    )
    return embeds, prompt_embeds(info.text_dim, "NEGATIVE_EMBEDS"), *seen, *encoded


def as_optional(tensor: Tensor, info: ModelInfo) -> Tensor:
    """The tensor as it is where a picture may be left out."""
    return replace(tensor, optional=info.picture == "optional")


def latents(channels: int) -> Tensor:
    return Tensor("LATENTS", "FP32", (1, channels, -1, -1, -1))
