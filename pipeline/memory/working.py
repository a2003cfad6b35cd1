"""Estimate the working memory of a stage in bytes, in addition to its weights.

The estimates are lower bounds, not peaks.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from pipeline.checkpoint.folder import Checkpoint
from pipeline.families import ModelInfo, VideoRequest
from pipeline.settings import StageSettings

# Latents in float32 during a step: the sample, two velocities, and the history of a multistep
# solver.
LATENT_COPIES = 5
CACHED_FRAMES = 2  # per causal convolution, whose kernel spans 3 frames


def tokens_of(info: ModelInfo, request: VideoRequest) -> int:
    """Return the number of tokens that the transformer makes of the request's latents."""
    _, _, frames, height, width = info.latent_shape(request)
    return frames * (height // info.patch_size) * (width // info.patch_size)


def denoising(checkpoint: Checkpoint, request: VideoRequest, shards: int, itemsize: int) -> int:
    """Return the activation memory in bytes of one sample on one rank, with the sequence split over
    ``shards`` ranks.

    A feed-forward layer holds the residual, its normalised copy, and the inner layer before and
    after its activation. Attention holds the residual, its copy, query, key, value and the result.
    """
    config, info = checkpoint.configs["transformer"], checkpoint.info
    # A key missing from a config has its class's default value.
    if checkpoint.classes["transformer"] == "WanTransformer3DModel":
        inner = config.get("num_attention_heads", 40) * config.get("attention_head_dim", 128)
        feed_forward = config.get("ffn_dim", 13824)
    else:
        inner = config.get("num_attention_heads", 24) * config.get("attention_head_dim", 128)
        feed_forward = int(inner * config.get("mlp_ratio", 4.0))
    tokens = -(-tokens_of(info, request) // shards)
    _, channels, frames, height, width = info.latent_shape(request)
    latents = LATENT_COPIES * channels * frames * height * width * 4
    return tokens * max(2 * inner + 2 * feed_forward, 6 * inner) * itemsize + latents


def decoding(checkpoint: Checkpoint, request: VideoRequest, settings: StageSettings) -> int:
    """Return the working memory in bytes of the VAE decoder.

    Counted are the caches of a frame or a tile, or the widest layer of all frames that are decoded
    at once.
    """
    config, height, width = checkpoint.configs["vae"], request.height, request.width
    if settings.vae_tiling:
        height = min(height, settings.vae_config.tile_sample_min_height)
        width = min(width, settings.vae_config.tile_sample_min_width)
    itemsize = 2 if settings.vae_engine == "torch" and settings.vae_precision != "fp32" else 4
    if checkpoint.classes["vae"] != "AutoencoderKLWan":
        window = min(request.num_frames, settings.vae_config.tile_sample_min_num_frames + 1)
        # The input and the result of a convolution in the last level.
        return 2 * config.get("block_out_channels", (128,))[0] * window * height * width * itemsize
    if settings.vae_engine == "tile":
        patch = config.get("patch_size") or 1
        widest = config.get("decoder_base_dim") or config.get("base_dim", 96)
        return 2 * widest * request.num_frames * (height // patch) * (width // patch) * itemsize
    side = checkpoint.info.spatial_compression
    cells = (height // side) * (width // side)
    return wan_caches(config, cells) * itemsize


def wan_caches(config: Mapping[str, Any], cells: int) -> int:
    """Return the number of elements in the caches of Wan's decoder, for a frame of ``cells`` latent
    cells.

    Each causal convolution caches two frames of its input. The loop over the levels follows
    diffusers' ``WanDecoder3d``.
    """
    base, residual = (
        config.get("decoder_base_dim") or config.get("base_dim", 96),
        config.get("is_residual", False),
    )
    multiples = list(config.get("dim_mult", (1, 2, 4, 4)))[::-1]
    in_time = list(config.get("temperal_downsample", (False, True, True)))[::-1]
    widths = [base * multiple for multiple in (multiples[0], *multiples)]
    blocks = config.get("num_res_blocks", 2) + 1
    # The first convolution, and the two pairs of the middle block.
    channels = [(config.get("z_dim", 16) + 4 * widths[0]) * cells]
    for level, (given, made) in enumerate(pairwise(widths)):
        entering = given if level == 0 or residual else given // 2
        channels.append((entering + (2 * blocks - 1) * made) * cells)
        if level < len(multiples) - 1:
            channels.append(made * cells if in_time[level] else 0)
            cells *= 4
    return CACHED_FRAMES * (sum(channels) + widths[-1] * cells)
