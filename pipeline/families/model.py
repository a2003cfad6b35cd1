"""Describe a served model, and complete and check the requests to it."""

from __future__ import annotations

import math
import secrets
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from pipeline.errors import InputError
from pipeline.families.bounds import Bounds
from pipeline.families.family import Defaults, InputUse
from pipeline.families.inputs import PREFIX_LATENTS, Clip, Extension, check_strength
from pipeline.families.lora import Loras
from pipeline.families.request import VideoRequest
from pipeline.families.sampling import SamplingParams
from pipeline.json_record import load_record, save_record

FILE_NAME = "model.json"
VERSION = 2
"""Version of ``model.json``. Version 1 had no ``version``, and ``picture``, not ``image``."""


class ImageEncoder(BaseModel):
    """The geometry of an image encoder, which the model uses in addition to the VAE.

    It turns pixels (3, side, side) into embeddings (tokens, dim).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    side: int = Field(ge=1)
    tokens: int = Field(ge=1)
    dim: int = Field(ge=1)


class ModelInfo(BaseModel):
    """A checkpoint's geometry, defaults and bounds.

    ``model.json`` in a rendered model repository stores it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[2] = VERSION
    name: str
    family: str
    defaults: Defaults
    max_side: int
    max_frames: int
    max_steps: int
    latent_channels: int = Field(ge=1)
    spatial_compression: int = Field(ge=1, description="Pixels per latent cell and side.")
    temporal_compression: int = Field(ge=1, description="Frames per latent frame after the first.")
    patch_size: int = Field(ge=1, description="Latent cells per transformer token and side.")
    text_dim: int = Field(ge=1)
    pooled_dim: int | None = Field(
        default=None, ge=1, description="Of the second text encoder's vector; None: no such."
    )
    image: InputUse = Field(
        default="refused",
        validation_alias=AliasChoices("image", "picture"),
        description="Whether a video begins from a reference image.",
    )
    last_frame: InputUse = Field(
        default="refused", description="Whether a video ends with an image."
    )
    edits: bool = Field(default=False, description="Whether a request may edit a video.")
    extends: bool = Field(default=False, description="Whether a request may continue a video.")
    image_encoder: ImageEncoder | None = Field(
        default=None, description="None: images go to the VAE alone."
    )
    step_cache: bool = Field(
        default=False, description="Whether the model has a table of the step cache."
    )
    boundary_ratio: float | None = Field(
        default=None, description="Share of the noise at which the second expert begins, if any."
    )
    bounds: Bounds = Field(
        default=Bounds(), description="Limits that the operator of the server set."
    )
    loras: Loras = Field(default=Loras(), description="LoRAs that a request may use.")

    @property
    def size_multiple(self) -> int:
        """The number of pixels that height and width must be multiples of."""
        return self.spatial_compression * self.patch_size

    @property
    def takes_image(self) -> bool:
        return self.image != "refused"

    def resolve(
        self,
        params: SamplingParams,
        *,
        image: tuple[int, int] | None = None,
        last_frame: bool = False,
        video: Clip | None = None,
        return_frames: bool = False,
    ) -> VideoRequest:
        """Fill in the defaults of a request and check it against the model's limits. The LoRAs that
        it uses may bring their own defaults.

        ``image`` is the width and height of the reference image in pixels. If neither width nor
        height is set, the video gets its aspect ratio. ``video`` describes the video to edit or to
        extend, which decides size and fps, and the length of an edit. Raises ``InputError``, which
        names the parameter and the nearest valid values.
        """
        self.check_inputs(
            params.strength,
            image=image is not None,
            last_frame=last_frame,
            video=video is not None,
        )
        values: dict[str, Any] = {
            key: value
            for key, value in params.model_dump(
                exclude={"prompt", "negative_prompt", "lora"}
            ).items()
            if value is not None
        }
        lora = self.loras.chosen(params.lora)
        kept = self._of_video(params, video) if video else {}
        values = self.loras.defaults(lora) | values | kept
        seed = values.pop("seed", None)
        flow_shift = values.pop("flow_shift", None)
        defaults = self.defaults.model_dump(include=set(VideoRequest.model_fields))
        if image and params.width is None and params.height is None:
            defaults["width"], defaults["height"] = self.size_like(*image)
        request = VideoRequest(
            **{**defaults, **values},
            flow_shift=flow_shift,
            lora=lora,
            last_frame=last_frame,
            seed=secrets.randbits(31) if seed is None else seed,
            return_frames=return_frames,
        )
        self._check(request)
        check_strength(params, request.num_inference_steps)
        self.bounds.check(request)
        return request

    def _check(self, request: VideoRequest) -> None:
        """Raise ``InputError`` for what the model cannot do."""
        self._check_experts(request)
        self._check_step_cache(request)
        self._check_side("height", request.height)
        self._check_side("width", request.width)
        self._check_frames(request.num_frames)
        self._check_steps(request)

    def bounded(self, bounds: Bounds) -> Self:
        """Return a copy of the model that ``bounds`` limit too."""
        return self.model_copy(update={"bounds": self.bounds.tightened(bounds)})

    def check_inputs(
        self, strength: float | None, *, image: bool, last_frame: bool, video: bool
    ) -> None:
        """Raise ``InputError`` for a file of `Inputs` that the model requires or does not take, and
        for files that do not go together. ``strength`` is that of the request.
        """
        edits = strength is not None
        if edits and not video:
            raise InputError("strength", "requires input_video, the video to edit")
        if video:
            self._check_video(edits=edits)
            if image:
                why = "an edit takes no image" if edits else "the video begins with input_video"
                raise InputError("input_reference", f"not valid with input_video; {why}")
        else:
            self.check_image(given=image)
        if last_frame and (edits or self.last_frame == "refused"):
            why = "an edit keeps the length of input_video" if edits else (
                f"the model {self.name!r} makes no video that ends with an image"
            )  # fmt: skip
            raise InputError("last_frame", f"not supported; {why}")
        if not last_frame and self.last_frame == "required":
            raise InputError(
                "last_frame",
                f"required; the model {self.name!r} makes videos between two images",
            )

    def _check_video(self, *, edits: bool) -> None:
        if self.edits if edits else self.extends:
            return
        other = ""
        if self.edits and not edits:
            other = "; it edits them: set strength"
        elif self.extends and edits:
            other = "; it extends them: leave strength out"
        verb = "edits" if edits else "extends"
        raise InputError(
            "input_video", f"not supported; the model {self.name!r} {verb} no videos{other}"
        )

    def _of_video(self, params: SamplingParams, video: Clip) -> dict[str, int]:
        """Return the fields of a request that edits or extends ``video``. Raises ``InputError`` for
        parameters that ask for another size, fps or, in an edit, length.
        """
        width, height = self.size_of(video)
        values = {"width": width, "height": height, "fps": video.fps}
        step = self.temporal_compression
        if params.strength is not None:
            values["num_frames"] = (video.num_frames - 1) // step * step + 1
            if values["num_frames"] > self.max_frames:
                raise InputError(
                    "input_video",
                    f"has {video.num_frames} frames; the model {self.name!r} edits at most "
                    f"{self.max_frames}",
                )
        for name, value in values.items():
            asked = getattr(params, name)
            if asked not in (None, value):
                raise InputError(
                    name, f"{asked} is not valid; it must be that of input_video, {value}"
                )
        if params.strength is not None:
            return values
        if params.num_frames is not None:
            self._check_frames(params.num_frames)
        most = PREFIX_LATENTS if self.image == "optional" else 1
        native = self.defaults.num_frames
        cut = Extension.of(video.num_frames, params.num_frames, native, step, most)
        return values | {
            "num_frames": (cut.prefix + cut.new - 1) * step + 1,
            "source_frames": video.num_frames,
            "prefix_frames": (cut.prefix - 1) * step + 1,
        }

    def size_of(self, video: Clip) -> tuple[int, int]:
        """Return width and height of an edit or an extension of ``video``: its own, if the model
        can make them, otherwise the next smaller ones of its aspect ratio.
        """
        sides = video.width, video.height
        if all(side % self.size_multiple == 0 and side <= self.max_side for side in sides):
            return sides
        area = min(video.width * video.height, self.defaults.width * self.defaults.height)
        return self.size_like(*sides, area)

    def check_image(self, *, given: bool) -> None:
        """Raise ``InputError`` for a missing required image, and for one that is not supported."""
        if given and self.image == "refused":
            raise InputError(
                "input_reference",
                f"not supported; the model {self.name!r} makes videos from text alone",
            )
        if not given and self.image == "required":
            raise InputError(
                "input_reference",
                f"required; the model {self.name!r} makes videos from an image",
            )

    def negative_prompt(self, params: SamplingParams) -> str:
        return (
            self.defaults.negative_prompt
            if params.negative_prompt is None
            else params.negative_prompt
        )

    def latent_shape(self, request: VideoRequest) -> tuple[int, int, int, int, int]:
        """Return the shape of the request's latents: (1, channels, latent frames, latent height,
        latent width).
        """
        frames = (request.num_frames - 1) // self.temporal_compression + 1
        side = self.spatial_compression
        return 1, self.latent_channels, frames, request.height // side, request.width // side

    def size_like(self, width: int, height: int, area: int | None = None) -> tuple[int, int]:
        """Return a size of the aspect ratio of ``width`` and ``height``, up to ``area`` pixels.

        The default is as many pixels as the model's default size has.
        """
        step, area = self.size_multiple, area or self.defaults.width * self.defaults.height
        largest = self.max_side // step * step
        sides = math.sqrt(area * width / height), math.sqrt(area * height / width)
        across, down = (min(max(step, int(side) // step * step), largest) for side in sides)
        return across, down

    def _check_experts(self, request: VideoRequest) -> None:
        if request.guidance_scale_2 is not None and self.defaults.guidance_scale_2 is None:
            raise InputError(
                "guidance_scale_2",
                "not supported; the model has no second expert",
            )

    def _check_step_cache(self, request: VideoRequest) -> None:
        if request.step_cache in (None, "off") or self.step_cache:
            return
        if self.defaults.denoising_timesteps:
            why = "the model was distilled to few steps, and all of them are computed"
        else:
            why = f"the model {self.name!r} has no table; triton-video calibrate makes one"
        raise InputError("step_cache", f"{request.step_cache} is not available; {why}")

    def _check_steps(self, request: VideoRequest) -> None:
        steps, distilled = request.num_inference_steps, self.defaults.denoising_timesteps
        if steps > self.max_steps:
            raise InputError(
                "num_inference_steps",
                f"{steps} is too many; it must be from 1 to {self.max_steps}",
            )
        if distilled and steps != len(distilled):
            raise InputError(
                "num_inference_steps",
                f"{steps} is not valid; the model was distilled to {len(distilled)} steps",
            )
        if distilled and request.flow_shift is not None:
            raise InputError("flow_shift", "not supported; the model has fixed timesteps")

    def _check_side(self, field: str, pixels: int) -> None:
        step = self.size_multiple
        largest = self.max_side // step * step
        if pixels % step == 0 and pixels <= largest:
            return
        below = min(max(step, pixels // step * step), largest)
        near = (
            f"{below}"
            if below in (largest, pixels) or pixels < step
            else f"{below} or {below + step}"
        )
        raise InputError(
            field,
            f"{pixels} is not valid; it must be a multiple of {step}, at most {largest} "
            f"(nearest: {near})",
        )

    def _check_frames(self, frames: int) -> None:
        step = self.temporal_compression
        largest = (self.max_frames - 1) // step * step + 1
        if frames % step == 1 % step and frames <= largest:
            return
        below = min((frames - 1) // step * step + 1, largest)
        near = f"{below}" if below == largest else f"{below} or {below + step}"
        raise InputError(
            "num_frames",
            f"{frames} is not valid; it must be {step}k+1, at most {largest} (nearest: {near})",
        )

    def save(self, folder: Path) -> None:
        save_record(self, folder / FILE_NAME)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read ``model.json`` in ``folder``.

        Raises ``CheckpointError`` when it is missing or invalid.
        """
        return load_record(cls, folder / FILE_NAME, "a model description")
