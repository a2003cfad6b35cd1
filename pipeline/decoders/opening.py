"""The decoder that a stage's settings ask for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.checkpoint import read_json
from pipeline.decoders.chunked import ChunkedEngine
from pipeline.decoders.decoder import Decoder, Engine
from pipeline.decoders.tile import TileEngine
from pipeline.decoders.tiling import Tiling
from pipeline.stages.settings import StageSettings


def open_decoder(folder: Path, settings: StageSettings) -> Decoder:
    """`folder` holds the exported graphs; the VAE's config, and for ``torch`` its weights, are in the checkpoint.

    Raises CheckpointError for what is missing, and InputError for tiles that cannot be.
    """
    vae = Path(settings.checkpoint) / "vae"
    config = read_json(vae / "config.json")
    return Decoder(_engine(folder, vae, config, settings), _tiling(config, settings) if settings.vae_tiling else None)


def _engine(folder: Path, vae: Path, config: dict[str, Any], settings: StageSettings) -> Engine:
    if settings.vae_engine == "torch":
        import torch

        from pipeline.decoders.torch_wan import TorchEngine

        dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
        return TorchEngine(vae, dtypes[settings.vae_precision], settings.threads)
    if settings.vae_engine == "tile":
        return TileEngine.open(folder, settings.threads, config.get("scale_factor_temporal", 4))
    return ChunkedEngine.open(folder, settings.threads)


def _tiling(config: dict[str, Any], settings: StageSettings) -> Tiling:
    sizes, cell = settings.vae_config, config.get("scale_factor_spatial", 8)
    return Tiling(
        height=sizes.tile_sample_min_height,
        width=sizes.tile_sample_min_width,
        stride_height=sizes.stride_height(cell),
        stride_width=sizes.stride_width(cell),
        cell=cell,
        patch=config.get("patch_size") or 1,
    )
