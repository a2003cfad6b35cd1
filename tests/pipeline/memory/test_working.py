"""The formulas of working memory agree with counts of the real code on the meta device."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl_hunyuan_video import AutoencoderKLHunyuanVideo
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from diffusers.models.transformers.transformer_hunyuan_video import HunyuanVideoTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

from pipeline.memory.transformer import Block, block_peak
from pipeline.memory.vae import (
    HUNYUAN_ON_CPU,
    MASK_COPIES,
    hunyuan_decoder_peak,
    wan_cpu_peak,
    wan_decoder_caches,
    wan_decoder_peak,
    wan_encoder_caches,
    wan_encoder_peak,
)
from pipeline.parallel.layout import Layout
from tests.pipeline.memory import counting

TRANSFORMERS: dict[str, tuple[type[Any], dict[str, Any], tuple[int, ...]]] = {
    "Wan 1.3B": (WanTransformer3DModel, {"num_attention_heads": 12, "ffn_dim": 8960},
                 (16, 21, 60, 104)),
    "Wan 14B": (WanTransformer3DModel, {"num_attention_heads": 40, "ffn_dim": 13824},
                (16, 21, 90, 160)),
    "Wan 14B I2V": (WanTransformer3DModel, {"num_attention_heads": 40, "ffn_dim": 13824,
                    "in_channels": 36, "image_dim": 1280, "added_kv_proj_dim": 5120},
                    (36, 21, 90, 160)),
    "Wan 5B TI2V": (WanTransformer3DModel, {"num_attention_heads": 24, "ffn_dim": 14336,
                    "in_channels": 48, "out_channels": 48}, (48, 31, 44, 80)),
    "narrow feed-forward": (WanTransformer3DModel, {"num_attention_heads": 12, "ffn_dim": 1536},
                            (16, 21, 60, 104)),
    "HunyuanVideo": (HunyuanVideoTransformer3DModel, {}, (16, 12, 90, 160)),
}  # fmt: skip
LAYOUTS = (Layout(), Layout(4, 1), Layout(2, 2), Layout(1, 2), Layout(1, 4))
WAN_21 = {"base_dim": 96}
WAN_22 = {
    "base_dim": 160, "decoder_base_dim": 256, "z_dim": 48, "is_residual": True, "patch_size": 2,
    "in_channels": 12, "out_channels": 12, "latents_mean": [0.0] * 48, "latents_std": [1.0] * 48,
}  # fmt: skip
BUNDLED = {
    "base_dim": 16, "dim_mult": [1, 2, 4], "num_res_blocks": 1, "temperal_downsample": [True, True],
    "patch_size": 2, "in_channels": 12, "out_channels": 12,
}  # fmt: skip


def close(formula: int, counted: int, within: float = 0.05) -> None:
    assert (1 - within) * counted <= formula <= (1 + within) * counted, f"{formula / counted:.3f}"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=["bf16", "fp32"])
@pytest.mark.parametrize(
    "layout", LAYOUTS, ids=[f"U{layout.ulysses}R{layout.ring}" for layout in LAYOUTS]
)
@pytest.mark.parametrize("name", TRANSFORMERS)
def test_activations_agree_with_the_count(name: str, layout: Layout, dtype: torch.dtype) -> None:
    cls, config, latents = TRANSFORMERS[name]
    per_token = name.endswith("TI2V")
    layers = {"num_layers": 2} | ({"num_single_layers": 2} if "Hunyuan" in name else {})
    counted = counting.transformer_peak(
        cls, {**config, **layers}, latents, layout, dtype, per_token=per_token
    )
    block = Block.of(cls.__name__, config, per_token=per_token)
    tokens = latents[1] * (latents[2] // 2) * (latents[3] // 2)
    close(block_peak(block, tokens, layout, dtype.itemsize), counted, 0.04)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=["bf16", "fp32"])
@pytest.mark.parametrize("config", [WAN_21, WAN_22, BUNDLED], ids=["2.1", "2.2", "bundled"])
def test_wan_decoder_agrees_with_the_count(config: dict[str, Any], dtype: torch.dtype) -> None:
    with counting.META:
        vae = AutoencoderKLWan(**config).eval()
    caches, peak = counting.wan_decoder_bytes(vae, (60, 104), dtype)
    assert caches == wan_decoder_caches(config, 60 * 104) * dtype.itemsize
    close(wan_decoder_peak(config, 60 * 104, dtype.itemsize), peak)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=["bf16", "fp32"])
@pytest.mark.parametrize("config", [WAN_21, WAN_22, BUNDLED], ids=["2.1", "2.2", "bundled"])
def test_wan_encoder_agrees_with_the_count(config: dict[str, Any], dtype: torch.dtype) -> None:
    with counting.META:
        vae = AutoencoderKLWan(**config).eval()
    caches, peak = counting.wan_encoder_bytes(vae, (240, 416), dtype)
    assert caches == wan_encoder_caches(config, 240 * 416) * dtype.itemsize
    close(wan_encoder_peak(config, 240 * 416, dtype.itemsize), peak)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=["bf16", "fp32"])
@pytest.mark.parametrize("latents", [(5, 32, 32), (5, 90, 160), (2, 32, 32)])
def test_hunyuan_decoder_agrees_with_the_count(
    latents: tuple[int, int, int], dtype: torch.dtype
) -> None:
    with counting.META:
        vae = AutoencoderKLHunyuanVideo().eval()
    peak = counting.hunyuan_decoder_bytes(vae, latents, dtype)
    frames, pixels = latents[0] * 4 - 3, latents[1] * latents[2] * 64
    close(hunyuan_decoder_peak({}, frames, pixels, dtype.itemsize), peak)


@pytest.mark.parametrize(
    ("config", "cells", "caches", "mebibytes"),
    [
        (WAN_21, 30 * 52, 2, 4184),
        (WAN_21, 16 * 24, 2, 1199),
        (WAN_21, 16 * 24, 1, 775),
        (WAN_22, 16 * 24, 2, 3113),
    ],
)
def test_decoders_on_a_cpu_agree_with_measured_peaks(
    config: dict[str, Any], cells: int, caches: int, mebibytes: int
) -> None:
    """Growth of anonymous memory with ONNX Runtime (2 caches) and torch (1)."""
    close(wan_cpu_peak(config, cells, caches), mebibytes << 20, 0.15)


@pytest.mark.parametrize(
    ("frames", "side", "mebibytes"),
    [(17, (128, 128), 1543), (17, (128, 256), 3091), (5, (256,) * 2, 1912)],
)
def test_hunyuan_decoder_on_a_cpu_agrees_with_measured_peaks(
    frames: int, side: tuple[int, int], mebibytes: int
) -> None:
    pixels = side[0] * side[1]
    tokens = (frames + 3) // 4 * pixels // 64
    mask = MASK_COPIES * tokens**2 * 4
    close(
        round(HUNYUAN_ON_CPU * hunyuan_decoder_peak({}, frames, pixels, 4)) + mask,
        mebibytes << 20,
        0.1,
    )
