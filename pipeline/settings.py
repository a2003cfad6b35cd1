"""The settings of the stages, which also define options of the command line.

They are stored as ``stage.json`` beside each ``model.py`` and passed to the rank processes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from pipeline.errors import InputError
from pipeline.families.bounds import Bounds
from pipeline.families.comma_separated import comma_separated
from pipeline.families.lora import MAX_LORAS, LoraFile, Loras, LoraUse
from pipeline.families.parts import VAE_DECODER, Part
from pipeline.families.step_cache.option import FORMS, StepCache, StepCacheOption, check_option
from pipeline.families.step_cache.table import StepCacheTable
from pipeline.json_record import load_record, save_record
from pipeline.parallel.backends import AttentionBackend
from pipeline.parallel.layout import Layout
from pipeline.system.native_paths import native_path

FILE_NAME = "stage.json"
VERSION = 2
"""Version of ``stage.json``. Version 1 had no ``version``, and ``resident``, not ``offload``."""
Precision = Literal["fp32", "bf16"]
Offload = Literal["none", "expert", "layer"]
"""Offload policy, which keeps in CPU memory: nothing ("none"), the expert that is not in use
("expert"), or all transformer blocks except those in use ("layer").
"""
EncoderEngine = Literal["graph", "torch"]
"""What runs the encoders: their exported graphs, or torch with the checkpoint's weights."""
VaeEngine = Literal["chunked", "tile", "torch"]
GraphPrecision = Literal["fp32", "bf16", "fp16"]
TextPrecisions = Annotated[tuple[GraphPrecision, ...], BeforeValidator(comma_separated)]
Flavour = Literal["python", "onnxruntime", "tensorrt"]
"""What runs the graphs: ONNX Runtime in Triton's python backend, or Triton's own backend for text
encoders (with TensorRT, also engines in the python backend for the VAE).
"""
# The defaults of diffusers. The default stride is 3/4 of a tile of any size.
TILE, STRIDE = 256, 192
ENGINE_PIXELS = 1280 * 720
RESIDENT_V1 = {"all": "none", "expert": "expert", "block": "layer"}


class VaeConfig(BaseModel):
    """Sizes of the VAE's tiles in pixels, as diffusers names them.

    A stride that is not set is 3/4 of a tile.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    load_encoder: bool = Field(
        default=False,
        description="Load the VAE's encoder for a text-to-video model too, which then edits videos."
        " Models that take an image always have it.",
    )
    load_decoder: Literal[True] = Field(
        default=True, description="Accepted for compatibility: it is always loaded."
    )
    tile_sample_min_height: int = Field(default=TILE, ge=1, description="Height of a tile.")
    tile_sample_min_width: int = Field(default=TILE, ge=1, description="Width of a tile.")
    tile_sample_stride_height: int | None = Field(
        default=None, ge=1, description="From a tile to the one below it."
    )
    tile_sample_stride_width: int | None = Field(
        default=None, ge=1, description="From a tile to the one beside it."
    )

    tile_sample_min_num_frames: int = Field(
        default=16, ge=1, description="Frames of a window (HunyuanVideo)."
    )
    tile_sample_stride_num_frames: int | None = Field(
        default=None, ge=1, description="Frames from a window to the next one (HunyuanVideo)."
    )

    def stride_height(self, cell: int) -> int:
        """Return the vertical stride in pixels; the default is a multiple of ``cell``."""
        return self.tile_sample_stride_height or _stride(self.tile_sample_min_height, cell)

    def stride_width(self, cell: int) -> int:
        """Return the horizontal stride in pixels; the default is a multiple of ``cell``."""
        return self.tile_sample_stride_width or _stride(self.tile_sample_min_width, cell)

    def stride_frames(self, per_latent: int) -> int:
        """Return the stride in frames. The default is a multiple of ``per_latent``, the frames of
        one latent frame.
        """
        return self.tile_sample_stride_num_frames or _stride(
            self.tile_sample_min_num_frames, per_latent
        )


def _stride(tile: int, cell: int) -> int:
    return max(cell, tile * STRIDE // TILE // cell * cell)


class EngineOptions(BaseModel):
    """The options of TensorRT engines, which mean the same on the command line."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    engine_max_pixels: int = Field(
        default=ENGINE_PIXELS,
        ge=64 * 64,
        description="Largest width x height that TensorRT engines of the VAE take.",
    )
    weight_streaming_bytes: int | None = Field(
        default=None,
        ge=0,
        description="Bytes of weights that a TensorRT engine of the VAE keeps on the GPU; it "
        "streams the others from CPU memory. Default: all.",
    )


class GraphSettings(EngineOptions):
    """The settings that the exported graphs depend on."""

    text_encoder_precisions: TextPrecisions = Field(
        default=(),
        description="Data type of each text encoder, in order; fp32 where none is given.",
    )
    encoder_engine: EncoderEngine = Field(
        default="graph",
        description="What runs the encoders of texts and images: exported graphs, or torch.",
    )
    vae_engine: VaeEngine = Field(
        default="chunked",
        description="How the VAE decodes: frame by frame with caches, whole clips at once, or in "
        "torch.",
    )
    vae_precision: GraphPrecision = Field(
        default="fp32", description="Data type the VAE computes in."
    )

    def precision_of(self, part: Part) -> GraphPrecision:
        """Return the data type of a part's graphs: each text encoder's own, the VAE's, or fp32."""
        if part.kind == "text":
            listed = self.text_encoder_precisions
            return listed[part.index] if part.index < len(listed) else "fp32"
        return self.vae_precision if part.kind == "vae" else "fp32"

    def in_torch(self, part: Part) -> bool:
        """Return whether torch runs the part from the checkpoint's weights, without a graph."""
        return (self.vae_engine if part == VAE_DECODER else self.encoder_engine) == "torch"


class ComputeSettings(EngineOptions):
    """The options of the stages that mean the same on the command line and in ``stage.json``.

    Add a new option here; its flag, config key, variable and documentation derive from it. Add an
    option that needs a computation first, such as a number of ranks, to the command line's group,
    and its result to `StageSettings`.
    """

    tp_size: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Ranks that share the first text encoder, with some of its heads each.",
    )
    threads: int = Field(
        default=0,
        ge=0,
        le=1024,
        description="CPU threads per stage; 0 is one per CPU that the process may use.",
    )
    startup_timeout_s: float = Field(
        default=1800,
        ge=1,
        le=86_400,
        description="Seconds in which Triton must load all stages, ranks included.",
    )
    pin_cpu_memory: bool = Field(
        default=False,
        description="Pin offloaded weights in CPU memory: faster to copy, and never swapped out.",
    )
    attention_backend: AttentionBackend = Field(
        default="auto",
        description="Kernel of the transformer's attention. auto: cudnn on Hopper and newer GPUs "
        "of data centres, otherwise native, PyTorch's choice.",
    )
    enable_torch_compile: bool = Field(
        default=False,
        description="Compile the transformer's blocks with torch.compile. Takes a minute at "
        "the first video, and at the first one of another size.",
    )
    batching_max_size: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Requests of one size that are denoised as one batch, which others join.",
    )
    previews: bool = Field(
        default=True,
        description="Show small images of running videos on the page of serve. Decoding them takes "
        "1 % of the time.",
    )
    step_cache: Annotated[str, AfterValidator(check_option)] = Field(
        default="off",
        description=f"Steps that reuse the result of an earlier one: {FORMS}.",
    )
    max_loras: int = Field(
        default=4,
        ge=1,
        le=MAX_LORAS,
        description="LoRAs that stay loaded, and that one request may use.",
    )


class StageSettings(ComputeSettings, GraphSettings):
    """The checkpoint and how every stage computes; the same for all stages of a repository.

    ``stage.json`` stores it, and each rank process receives a complete copy.
    """

    version: Literal[2] = VERSION
    checkpoint: str = Field(description="Absolute path of the Diffusers checkpoint folder.")
    precision: Precision = Field(
        default="fp32", description="Data type the transformer computes in."
    )
    flavour: Flavour = Field(default="python", description="What runs text encoders and VAE.")
    offload: Offload = Field(
        default="none", description="What of the transformers waits in CPU memory."
    )
    vae_tiling: bool = Field(
        default=False, description="Decode frames larger than a tile in tiles."
    )
    text_encoder_offload: bool = Field(
        default=False,
        description="Keep the text encoders in CPU memory and copy each to the GPU for a prompt.",
    )
    step_cache_table: StepCacheTable | None = Field(
        default=None, description="Table of the step cache. Default: the model's."
    )
    vae_config: VaeConfig = Field(default=VaeConfig(), description="Sizes of the tiles.")
    vae_devices: int = Field(default=1, ge=1, description="Devices that decode tiles in parallel.")
    ulysses_degree: int = Field(
        default=1, ge=1, description="Ranks that trade tokens for attention heads (Ulysses)."
    )
    ring_degree: int = Field(
        default=1, ge=1, description="Ranks that pass keys and values round (Ring)."
    )
    guidance_branches: int = Field(
        default=1, ge=1, le=2, description="2 runs the branches of guidance on separate ranks."
    )
    bounds: Bounds = Field(
        default=Bounds(), description="Limits of a request, which the tokenizer enforces."
    )
    loras: tuple[LoraFile, ...] = Field(default=(), description="LoRAs that requests may use.")
    lora: tuple[LoraUse, ...] = Field(
        default=(), description="LoRAs of requests that do not choose."
    )
    lora_fixed: bool = Field(
        default=False, description="Merge the LoRAs into the weights; requests cannot choose."
    )

    @model_validator(mode="before")
    @classmethod
    def _from_older(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        data = dict(data)
        if "resident" in data and "version" not in data:
            resident = data.pop("resident")
            data["offload"] = RESIDENT_V1.get(resident, resident)
        # Ranks share an encoder in torch. Older versions stored only their number.
        if isinstance(ranks := data.get("tp_size"), int) and ranks > 1:
            data.setdefault("encoder_engine", "torch")
        return data

    def step_cache_of(self, table: StepCacheTable | None) -> StepCache:
        """Return the step cache of a model with ``table``, which the settings may replace."""
        return StepCache(self.step_cache_table or table, StepCacheOption.parse(self.step_cache))

    def check_size(self, width: int, height: int) -> None:
        """Raise ``InputError`` if TensorRT engines decode whole frames and these are too large."""
        whole = self.vae_engine != "torch" and not self.vae_tiling
        pixels = width * height
        if self.flavour == "tensorrt" and whole and pixels > self.engine_max_pixels:
            raise InputError(
                "width",
                f"{width}x{height} has {pixels:,} pixels; the TensorRT engines of the VAE take "
                f"at most {self.engine_max_pixels:,} "
                f"(--engine-max-pixels {pixels} builds larger ones)",
            )

    @property
    def checkpoint_path(self) -> Path:
        """The checkpoint's folder; it works in an interpreter that assumes ASCII file names."""
        return native_path(self.checkpoint)

    def check_compile(self) -> None:
        """Raise ``InputError`` if blocks are compiled and requests choose LoRAs: all blocks share
        one compiled code, and a LoRA adds something else to each.
        """
        if self.enable_torch_compile and self.loras and not self.lora_fixed:
            raise InputError(
                "enable_torch_compile",
                "not available with LoRAs that requests choose; leave it off, or serve fixed LoRAs",
            )

    @property
    def served_loras(self) -> Loras:
        """The LoRAs as clients see them, without their paths."""
        return Loras.of(self.loras, self.lora, fixed=self.lora_fixed, most=self.max_loras)

    @property
    def layout(self) -> Layout:
        """The layout of the transformer's ranks."""
        return Layout(self.ulysses_degree, self.ring_degree, self.guidance_branches)

    def save(self, folder: Path) -> None:
        """Write ``stage.json`` into ``folder``."""
        save_record(self, folder / FILE_NAME)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read ``stage.json`` in ``folder``, of this version or an older one.

        Raises ``CheckpointError`` when it is missing or invalid.
        """
        return load_record(cls, folder / FILE_NAME, "a stage description")
