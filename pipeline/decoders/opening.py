"""Open the decoder that a stage's settings select."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.checkpoint.regular_files import read_json
from pipeline.decoders.chunked import ChunkedEngine
from pipeline.decoders.decoder import Decoder
from pipeline.decoders.engine import Engine
from pipeline.decoders.tile import TileEngine
from pipeline.decoders.tiling import Tiling
from pipeline.decoders.windows import Windows
from pipeline.errors import InputError
from pipeline.settings import StageSettings
from pipeline.system.cpus import available_cpus

HUNYUAN = "AutoencoderKLHunyuanVideo"


def open_decoder(folder: Path, settings: StageSettings) -> Decoder:
    """Open the decoder whose exported graphs are in `folder`; the VAE's config, and for ``torch``
    its weights, are in the checkpoint.

    Raises CheckpointError for missing files, and InputError for invalid tiles or an unsupported
    engine.
    """
    vae = settings.checkpoint_path / "vae"
    config = read_json(vae / "config.json")
    if config.get("_class_name") == HUNYUAN:
        return _open_hunyuan(folder, config, settings)
    first, *more = (
        _open_wan(folder, vae, config, settings, device) for device in range(settings.vae_devices)
    )
    return Decoder(first, tiling(config, settings), more=more)


def _threads(settings: StageSettings) -> int:
    """Return the number of threads of each engine: parallel engines share the cores."""
    if settings.vae_devices == 1:
        return settings.threads
    return max(1, (settings.threads or available_cpus()) // settings.vae_devices)


def _open_wan(
    folder: Path, vae: Path, config: dict[str, Any], settings: StageSettings, device: int
) -> Engine:
    threads = _threads(settings)
    if settings.vae_engine == "torch":
        import torch

        from pipeline.decoders.torch_wan import TorchEngine

        dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
        return TorchEngine(vae, dtypes[settings.vae_precision], threads, device)
    if settings.vae_engine == "tile":
        return TileEngine.open(
            folder,
            threads,
            config.get("scale_factor_temporal", 4),
            min_latent_frames=2,
            device=device,
        )
    return ChunkedEngine.open(folder, threads, device)


def _open_hunyuan(folder: Path, config: dict[str, Any], settings: StageSettings) -> Decoder:
    """Open HunyuanVideo's decoder.

    It is not causal (it normalises over all frames), so ``chunked`` means windows in time, as
    ``tile`` does.
    """
    if settings.vae_engine == "torch":
        raise InputError(
            "vae_engine",
            "torch decodes the VAEs of Wan only; chunked or tile decodes HunyuanVideo's",
        )
    sizes, per_latent = settings.vae_config, config.get("temporal_compression_ratio", 4)
    first, *more = (
        TileEngine.open(folder, _threads(settings), per_latent, min_latent_frames=1, device=device)
        for device in range(settings.vae_devices)
    )
    windows = Windows(sizes.tile_sample_min_num_frames, sizes.stride_frames(per_latent), per_latent)
    return Decoder(first, tiling(config, settings), windows, more)


def tiling(config: Mapping[str, Any], settings: StageSettings) -> Tiling | None:
    """Return the tiles that the settings select for a VAE with this config, or None if tiling is
    off.

    Raises InputError for sizes that do not fit it.
    """
    if not settings.vae_tiling:
        return None
    sizes = settings.vae_config
    # The first is the name in Wan's configs, the second in HunyuanVideo's.
    cell = config.get("scale_factor_spatial") or config.get("spatial_compression_ratio") or 8
    return Tiling(
        height=sizes.tile_sample_min_height,
        width=sizes.tile_sample_min_width,
        stride_height=sizes.stride_height(cell),
        stride_width=sizes.stride_width(cell),
        cell=cell,
        patch=config.get("patch_size") or 1,
    )
