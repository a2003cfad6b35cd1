"""Every input and output of the Triton models: name, data type and shape, declared once.

Configs, adapters, stages and client use these constants, so that they cannot disagree.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from operator import attrgetter

from pipeline.families import ModelInfo
from pipeline.families.family import InputUse


def _always(_info: ModelInfo) -> InputUse:
    return "required"


@dataclass(frozen=True)
class Tensor:
    """A named tensor; ``datatype`` is Triton's name of its data type.

    A dimension is a number, -1 for any size, or the attribute of ``ModelInfo`` that holds its size.
    ``use`` says whether a model has the tensor at all, and whether a request may leave it out.
    """

    name: str
    datatype: str
    dims: tuple[int | str, ...]
    optional: bool = False
    use: Callable[[ModelInfo], InputUse] = _always

    @property
    def key(self) -> str:
        """The name of its value between two steps, and in dictionaries of arrays."""
        return self.name.lower()

    def of_model(self, info: ModelInfo) -> Tensor:
        """Return the tensor with the sizes of one model, optional where that model says so."""
        dims = tuple(attrgetter(dim)(info) if isinstance(dim, str) else dim for dim in self.dims)
        return replace(self, dims=dims, optional=self.optional or self.use(info) == "optional")


def tensors_of(info: ModelInfo, *tensors: Tensor) -> tuple[Tensor, ...]:
    """Those of ``tensors`` that the model has, with its sizes."""
    return tuple(tensor.of_model(info) for tensor in tensors if tensor.use(info) != "refused")


def _with_second_encoder(info: ModelInfo) -> InputUse:
    return "required" if info.pooled_dim else "refused"


def _with_second_pass(info: ModelInfo) -> InputUse:
    """Models with a second text encoder have no second pass, and so no negative prompt."""
    return "refused" if info.pooled_dim else "required"


def _with_image(info: ModelInfo) -> InputUse:
    return info.image


def _with_last_frame(info: ModelInfo) -> InputUse:
    return info.last_frame


def _with_video(info: ModelInfo) -> InputUse:
    return "optional" if info.edits or info.extends else "refused"


def _with_image_latents(info: ModelInfo) -> InputUse:
    return info.image if info.takes_image else _with_video(info)


def _with_image_encoder(info: ModelInfo) -> InputUse:
    return "required" if info.image_encoder else "refused"


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
    Tensor("STEP_CACHE", "BYTES", (1,), optional=True),
    Tensor("LORA", "BYTES", (1,), optional=True),
    Tensor("STRENGTH", "FP64", (1,), optional=True),
    Tensor("SEED", "INT64", (1,), optional=True),
)
"""One tensor per field of ``SamplingParams``, in upper case. A list is JSON text."""

INPUT_REFERENCE = Tensor("INPUT_REFERENCE", "BYTES", (1,), optional=True)
"""The file of the reference image."""

LAST_FRAME = Tensor("LAST_FRAME", "BYTES", (1,), optional=True)
"""The file of the image that the video ends with."""

INPUT_VIDEO = Tensor("INPUT_VIDEO", "BYTES", (1,), optional=True)
"""The file of the video to edit, or to extend."""

FILES = (INPUT_REFERENCE, LAST_FRAME, INPUT_VIDEO)
"""One tensor per field of ``Inputs``, in the same order."""

RETURN_FRAMES = Tensor("RETURN_FRAMES", "BOOL", (1,), optional=True)

INPUTS = (*SAMPLING, *FILES, RETURN_FRAMES)
"""The inputs of the ensemble, all taken by its first stage."""

REQUEST = Tensor("REQUEST", "BYTES", (1,))
"""A ``VideoRequest`` as JSON: the checked and completed request that the stages hand on."""
CHECKED_REQUEST = replace(REQUEST, name="CHECKED_REQUEST")
"""The same request between ``dit`` and ``vae_decoder``. A step's inputs come from one decoupled
step or from none, so it travels with the latents.
"""

INPUT_IDS = Tensor("INPUT_IDS", "INT64", (-1, -1))
ATTENTION_MASK = Tensor("ATTENTION_MASK", "INT64", (-1, -1))
NEGATIVE_INPUT_IDS = Tensor("NEGATIVE_INPUT_IDS", "INT64", (-1, -1), use=_with_second_pass)
NEGATIVE_ATTENTION_MASK = Tensor(
    "NEGATIVE_ATTENTION_MASK", "INT64", (-1, -1), use=_with_second_pass
)
INPUT_IDS_2 = Tensor("INPUT_IDS_2", "INT64", (-1, -1), use=_with_second_encoder)
"""The prompt's tokens for the second text encoder."""

IMAGE = Tensor("IMAGE", "UINT8", (-1, -1, -1, 3), use=_with_image)
"""(T, H, W, 3), in the size of the video: the reference image, or the last frames of a video to
extend.
"""
LAST_IMAGE = Tensor("LAST_IMAGE", "UINT8", (1, -1, -1, 3), use=_with_last_frame)
"""(1, H, W, 3): the image that the video ends with, in its size."""
SOURCE = Tensor("SOURCE", "BYTES", (1,), use=_with_video)
"""The file of the video to edit or to extend, which can be decoded."""
CHECKED_SOURCE = replace(SOURCE, name="CHECKED_SOURCE")
"""The same file between ``dit`` and ``vae_decoder``, as for ``CHECKED_REQUEST``."""
PIXEL_VALUES = Tensor(
    "PIXEL_VALUES",
    "FP32",
    (-1, 3, "image_encoder.side", "image_encoder.side"),
    use=_with_image_encoder,
)
"""The reference image, and then the last one, as the image encoder takes them: cut square and
normalised.
"""

PROMPT_EMBEDS = Tensor("PROMPT_EMBEDS", "FP32", (-1, -1, "text_dim"))
NEGATIVE_EMBEDS = replace(PROMPT_EMBEDS, name="NEGATIVE_EMBEDS", use=_with_second_pass)
POOLED_EMBEDS = Tensor("POOLED_EMBEDS", "FP32", (-1, "pooled_dim"), use=_with_second_encoder)
IMAGE_EMBEDS = Tensor(
    "IMAGE_EMBEDS",
    "FP32",
    (-1, "image_encoder.tokens", "image_encoder.dim"),
    use=_with_image_encoder,
)
IMAGE_LATENTS = Tensor(
    "IMAGE_LATENTS", "FP32", (1, "latent_channels", -1, -1, -1), use=_with_image_latents
)
"""Normalised latents: of the reference image, of a whole clip that is grey between its images, of a
video to edit, or of the last frames of one to extend.
"""

CONDITIONS = (PROMPT_EMBEDS, POOLED_EMBEDS, NEGATIVE_EMBEDS, IMAGE_EMBEDS, IMAGE_LATENTS)
"""What ``dit`` takes beside the request, of the kinds that a model has encoders for."""

STAGE = Tensor("STAGE", "BYTES", (1,))
PROGRESS = Tensor("PROGRESS", "INT32", (2,))
"""[steps done, total steps] of the stage that ``STAGE`` names."""
LATENTS = Tensor("LATENTS", "FP32", (1, "latent_channels", -1, -1, -1))
ESTIMATE = replace(LATENTS, name="ESTIMATE")
"""The clean latents that the model expected in its last step, of one or two latent frames, of which
a preview shows the last one.
"""

VIDEO = Tensor("VIDEO", "BYTES", (1,))
"""The MP4 file, in the last response only."""
THUMBNAIL = Tensor("THUMBNAIL", "BYTES", (1,))
SPRITESHEET = Tensor("SPRITESHEET", "BYTES", (1,))
"""WebP files, beside the video; `pipeline.media.previews` describes what they show."""
PREVIEW = Tensor("PREVIEW", "BYTES", (1,))
"""A small WebP file of a video that is being denoised, in a response with nothing else."""
FRAMES = Tensor("FRAMES", "UINT8", (-1, -1, -1, 3))
"""(T, H, W, 3), in the last response and only when ``RETURN_FRAMES`` is true."""
RESULT = Tensor("RESULT", "BYTES", (1,))
"""The ``VideoRequest`` that was made, as JSON, beside the video: it has the seed and the size."""

OUTPUTS = (STAGE, PROGRESS, PREVIEW, VIDEO, THUMBNAIL, SPRITESHEET, FRAMES, RESULT)
"""The outputs of the ensemble, all made by its last stage."""

ACTION = Tensor("ACTION", "BYTES", (1,))
JOB_ID = Tensor("JOB_ID", "BYTES", (1,), optional=True)
TOKEN = Tensor("TOKEN", "BYTES", (1,), optional=True)
"""The secret of `pipeline.triton.control_token`; required where Triton listens on TCP."""
ANSWER = Tensor("ANSWER", "BYTES", (1,))
