"""Working memory of the VAE's decoder and encoder, in bytes, in addition to their weights.

As in `pipeline.memory.transformer`, the formulas are sums of live tensors, which a test compares
with counts of diffusers' code.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from pipeline.checkpoint.folder import Checkpoint
from pipeline.families import VideoRequest
from pipeline.memory.placement import Engine
from pipeline.settings import StageSettings

FP32 = 4
CACHED_FRAMES = 2  # per causal convolution, whose kernel spans 3 frames
WAN = "AutoencoderKLWan"


def decoding(
    checkpoint: Checkpoint,
    settings: StageSettings,
    request: VideoRequest,
    engine: Engine,
    itemsize: int,
    *,
    on_cpu: bool = False,
) -> int:
    """Return the working memory of decoding a video on one device.

    ``itemsize`` is the number of bytes of an element in the decoder.
    """
    config, height, width = checkpoint.configs["vae"], request.height, request.width
    if settings.vae_tiling:
        height = min(height, settings.vae_config.tile_sample_min_height)
        width = min(width, settings.vae_config.tile_sample_min_width)
    side = checkpoint.info.spatial_compression
    cells = (height // side) * (width // side)
    if checkpoint.classes["vae"] == WAN:
        if engine == "torch":
            counted = wan_decoder_peak(config, cells, itemsize)
            return max(counted, wan_cpu_peak(config, cells, 1)) if on_cpu else counted
        if engine == "tensorrt":
            caches = wan_decoder_caches(config, cells) * itemsize
            return _by_tensorrt(wan_decoder_peak(config, cells, itemsize), caches)
        if settings.vae_engine == "tile":
            return wan_tile_peak(config, request.num_frames, cells)
        return wan_cpu_peak(config, cells, 2)
    window = min(request.num_frames, settings.vae_config.tile_sample_min_num_frames + 1)
    peak = hunyuan_decoder_peak(config, window, height * width, itemsize)
    tokens = cells * (1 + (window - 1) // checkpoint.info.temporal_compression)
    if engine == "tensorrt":
        return _by_tensorrt(peak, 0)
    if engine == "torch" and not on_cpu:
        return peak
    mask = MASK_COPIES * tokens**2 * FP32 if engine == "onnxruntime" else 0
    return round(HUNYUAN_ON_CPU * peak) + mask


def encoding(checkpoint: Checkpoint, request: VideoRequest, engine: Engine, itemsize: int) -> int:
    """Return the working memory of encoding a reference image, and the grey frames after it."""
    config = checkpoint.configs["vae"]
    pixels = request.height * request.width // (config.get("patch_size") or 1) ** 2
    peak = wan_encoder_peak(config, pixels, itemsize)
    caches = wan_encoder_caches(config, pixels) * itemsize
    if engine == "tensorrt":
        return _by_tensorrt(peak, caches)
    # ONNX Runtime writes new caches beside the old ones.
    return peak + (wan_encoder_caches(config, pixels) * FP32 if engine == "onnxruntime" else 0)


def _multiples(config: Mapping[str, Any]) -> list[int]:
    return list(config.get("dim_mult", (1, 2, 4, 4)))


def _in_time(config: Mapping[str, Any]) -> list[bool]:
    return list(config.get("temperal_downsample", (False, True, True)))


def _decoder_widths(config: Mapping[str, Any]) -> list[int]:
    """Return the width that enters the first level of Wan's decoder, and the width of each."""
    base = config.get("decoder_base_dim") or config.get("base_dim", 96)
    multiples = _multiples(config)[::-1]
    return [base * multiple for multiple in (multiples[0], *multiples)]


def wan_decoder_caches(config: Mapping[str, Any], cells: int) -> int:
    """Return the number of elements in the caches of Wan's decoder, for a frame of ``cells`` latent
    cells.

    Each causal convolution caches two frames of its input. The loop over the levels follows
    diffusers' ``WanDecoder3d``.
    """
    residual = config.get("is_residual", False)
    in_time, widths = _in_time(config)[::-1], _decoder_widths(config)
    blocks = config.get("num_res_blocks", 2) + 1
    # The first convolution, and the two pairs of the middle block.
    channels = [(config.get("z_dim", 16) + 4 * widths[0]) * cells]
    for level, (given, made) in enumerate(pairwise(widths)):
        entering = given if level == 0 or residual else given // 2
        channels.append((entering + (2 * blocks - 1) * made) * cells)
        if level < len(in_time):
            channels.append(made * cells if in_time[level] else 0)
            cells *= 4
    return CACHED_FRAMES * (sum(channels) + widths[-1] * cells)


def wan_decoder_peak(config: Mapping[str, Any], cells: int, itemsize: int) -> int:
    """Return the peak of decoding one latent frame of ``cells`` cells with diffusers' code.

    It is in the last level, in the first convolution of a residual block or in its normalisation,
    which computes in float32.
    """
    widths, frames = _decoder_widths(config), 2 ** sum(_in_time(config))
    given, made = widths[-2], widths[-1]
    entering = given if config.get("is_residual", False) or len(widths) == 2 else given // 2
    shortcut = made * frames if entering != made else 0
    padded = entering * (frames + CACHED_FRAMES)
    moments = [
        (3 * entering * frames + shortcut + 2 * padded + CACHED_FRAMES * entering) * itemsize,
        3 * made * frames * itemsize + (2 * made * frames * FP32 if itemsize < FP32 else 0),
    ]
    pixels = cells * 4 ** (len(widths) - 2)
    return wan_decoder_caches(config, cells) * itemsize + pixels * max(moments)


def wan_encoder_caches(config: Mapping[str, Any], pixels: int) -> int:
    """Return the number of elements in the caches of Wan's encoder, for frames of ``pixels`` pixels
    (or patches, where the VAE has them).

    The loop follows diffusers' ``WanEncoder3d``.
    """
    base, blocks = config.get("base_dim", 96), config.get("num_res_blocks", 2)
    in_time, widths = _in_time(config), [base * m for m in (1, *_multiples(config))]
    channels = [config.get("in_channels", 3) * pixels]
    total = 0
    for level, (given, made) in enumerate(pairwise(widths)):
        channels.append((given + (2 * blocks - 1) * made) * pixels)
        if level < len(in_time):
            pixels //= 4
            total += made * pixels if in_time[level] else 0  # caches one frame
    channels.append(5 * widths[-1] * pixels)  # the middle block and the last convolution
    return CACHED_FRAMES * sum(channels) + total


def wan_encoder_peak(config: Mapping[str, Any], pixels: int, itemsize: int) -> int:
    """Return the peak of encoding frames of ``pixels`` pixels (or patches) with diffusers' code."""
    width, frames = config.get("base_dim", 96), 2 ** sum(_in_time(config))
    held = (4 if config.get("is_residual", False) else 2) * frames
    given = config.get("in_channels", 3) * frames * itemsize
    convolution = (2 * (frames + CACHED_FRAMES) + CACHED_FRAMES) * itemsize
    normalisation = 2 * frames * FP32 if itemsize < FP32 else 0
    peak = held * itemsize + max(convolution, normalisation)
    return wan_encoder_caches(config, pixels) * itemsize + pixels * (width * peak + given)


def hunyuan_decoder_peak(config: Mapping[str, Any], frames: int, pixels: int, itemsize: int) -> int:
    """Return the peak of decoding a window of ``frames`` frames with HunyuanVideo's decoder, whose
    attention makes no mask.

    It is in the last upsampling, which doubles the sides of the last level but one; 2.4 frames are
    the padding of its convolution.
    """
    widths = config.get("block_out_channels", (128, 256, 512, 512))
    return round((4.4 * frames + 2.4) * widths[min(1, len(widths) - 1)] * pixels * itemsize)


MASK_COPIES = 4
"""Matrices of tokens x tokens that HunyuanVideo's exported attention holds at once (measured: 3 in
a tile of 256x256, 4.2 at 448x352).
"""


TENSORRT_SCRATCH = 2.1
"""Scratch memory of a TensorRT engine, as a multiple of what diffusers' code holds in addition to
the caches. TensorRT for RTX asked for 18.3 GB in bf16 and 35.3 GB in fp32 for the decoder of Wan
2.1 at 1280x1280, where diffusers' code holds 8.8 and 16.4 GB.
"""


def _by_tensorrt(peak: int, caches: int) -> int:
    """Return an engine's working memory; it writes new caches beside the old ones."""
    return 2 * caches + round(TENSORRT_SCRATCH * (peak - caches))


CPU_TENSORS = 16
"""Tensors of the last level's size that decoding on a CPU holds at its peak, in addition to the
caches. Measured with ONNX Runtime and with torch, whose convolutions both need scratch memory
there: 15 at 416x240 and 192x128 with Wan 2.1, 16 with Wan 2.2.
"""


def wan_cpu_peak(config: Mapping[str, Any], cells: int, caches: int) -> int:
    """Return the peak of decoding one latent frame of ``cells`` cells on a CPU, in float32.

    ``caches`` is 2 for ONNX Runtime, which writes new caches beside the old ones, and 1 for torch.
    """
    widths, frames = _decoder_widths(config), 2 ** sum(_in_time(config))
    tensor = widths[-1] * frames * cells * 4 ** (len(widths) - 2)
    return (caches * wan_decoder_caches(config, cells) + CPU_TENSORS * tensor) * FP32


HUNYUAN_ON_CPU = 1.2
"""Peak of HunyuanVideo's decoder on a CPU over the count, without the mask (measured with ONNX
Runtime at 128x128, 256x128 and 256x256, where it is 1.17 to 1.22).
"""


def wan_tile_peak(config: Mapping[str, Any], frames: int, cells: int) -> int:
    """Return the peak of decoding ``frames`` frames at once with ONNX Runtime: the input, the
    result and the padded copy of a convolution in the last level, and scratch memory (measured for
    9 and 17 frames of 128x128).
    """
    widths = _decoder_widths(config)
    return (3 * frames + 22) * widths[-1] * cells * 4 ** (len(widths) - 2) * FP32
