"""Open the decoder that a stage's settings select."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipeline.checkpoint.regular_files import read_json
from pipeline.decoders.chunked import ChunkedEngine
from pipeline.decoders.decoder import Decoder
from pipeline.decoders.engine import Engine
from pipeline.decoders.tile import TileEngine
from pipeline.decoders.tiling import Tiling
from pipeline.decoders.windows import Windows
from pipeline.settings import StageSettings
from pipeline.system.cpus import available_cpus

HUNYUAN = "AutoencoderKLHunyuanVideo"


OpenEngine = Callable[[StageSettings, int], Engine]
"""Opens the torch engine of the settings on the GPU with the given index, if there are GPUs."""


def torch_engine(settings: StageSettings, device: int) -> Engine:
    """Load the VAE's decoder into this process, in torch; an `OpenEngine`.

    Raises CheckpointError when it cannot be loaded.
    """
    from pipeline.decoders.torch_hunyuan import TorchHunyuanEngine
    from pipeline.decoders.torch_vae import DTYPES
    from pipeline.decoders.torch_wan import TorchEngine

    vae = settings.checkpoint_path / "vae"
    hunyuan = read_json(vae / "config.json").get("_class_name") == HUNYUAN
    kind = TorchHunyuanEngine if hunyuan else TorchEngine
    return kind(vae, DTYPES[settings.vae_precision], _threads(settings), device)


def open_decoder(
    folder: Path, settings: StageSettings, open_torch: OpenEngine = torch_engine
) -> Decoder:
    """Open the decoder whose exported graphs are in `folder`, or for the engine ``torch`` the one
    that `open_torch` opens. The VAE's config is in the checkpoint.

    Raises CheckpointError for missing files, and InputError for invalid tiles.
    """
    config = read_json(settings.checkpoint_path / "vae" / "config.json")
    hunyuan = config.get("_class_name") == HUNYUAN
    per_latent = config.get("temporal_compression_ratio" if hunyuan else "scale_factor_temporal", 4)
    first, *more = (
        open_torch(settings, device)
        if settings.vae_engine == "torch"
        else _graphs(folder, settings, per_latent, device, hunyuan=hunyuan)
        for device in range(settings.vae_devices)
    )
    # HunyuanVideo's decoder is not causal (it normalises over all frames): it decodes windows.
    sizes = settings.vae_config
    windows = (
        Windows(sizes.tile_sample_min_num_frames, sizes.stride_frames(per_latent), per_latent)
        if hunyuan
        else None
    )
    return Decoder(first, tiling(config, settings), windows, more)


def _graphs(
    folder: Path, settings: StageSettings, per_latent: int, device: int, *, hunyuan: bool
) -> Engine:
    if hunyuan or settings.vae_engine == "tile":
        return TileEngine.open(
            folder,
            _threads(settings),
            per_latent,
            min_latent_frames=1 if hunyuan else 2,
            device=device,
        )
    return ChunkedEngine.open(folder, _threads(settings), device)


def _threads(settings: StageSettings) -> int:
    """Return the number of threads of each engine: parallel engines share the cores."""
    if settings.vae_devices == 1:
        return settings.threads
    return max(1, (settings.threads or available_cpus()) // settings.vae_devices)


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
