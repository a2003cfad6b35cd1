"""The Wan families: all of the same transformer and VAE classes, in other sizes and with other
things beside them.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
    WanImageToVideoPipeline,
    WanPipeline,
    WanTransformer3DModel,
)
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    CLIPVisionModel,
    UMT5Config,
    UMT5EncoderModel,
)

from tests.checkpoints.parts import save, shake, tokenizer

FOUR_LEVELS: dict[str, Any] = {"dim_mult": [1, 2, 4, 4], "temperal_downsample": [False, True, True]}
PATCHES: dict[str, Any] = {"in_channels": 12, "out_channels": 12, "patch_size": 2}
IMAGE_SIZE = 20


def build(folder: Path, *, seed: int, plain_vae: bool, euler: bool, shard: bool) -> Path:
    """Wan 2.1 T2V: its VAE of four levels or of patches, Euler or UniPC, in shards or not."""
    torch.manual_seed(seed)
    channels, text_dim = (5, 40) if plain_vae else (8, 24)
    encoder = _encoder(text_dim, num_layers=1 + seed % 2)
    transformer = _transformer(
        channels,
        channels,
        text_dim,
        attention_head_dim=16 if plain_vae else 24,
        num_layers=3 if plain_vae else 2,
    )
    vae = (
        _vae(channels, base_dim=6, num_res_blocks=2, **FOUR_LEVELS)
        if plain_vae
        else _vae(
            channels, base_dim=8, dim_mult=[1, 2, 4], temperal_downsample=[True, True], **PATCHES
        )
    )
    shake(encoder, transformer, vae)
    parts = _parts(encoder, vae, euler=euler)
    return save(WanPipeline(transformer=transformer, **parts), folder, shard=shard)


def build_wan21_t2v(folder: Path) -> Path:
    return build(folder, seed=1, plain_vae=True, euler=True, shard=True)


def build_wan21_i2v(folder: Path, **options: Any) -> Path:
    """The transformer takes 2 x 5 + 4 channels and the image encoder's hidden states."""
    torch.manual_seed(3)
    encoder, vae = _encoder(28), _vae(5, base_dim=6, **FOUR_LEVELS)
    image_encoder = CLIPVisionModel(
        CLIPVisionConfig(
            hidden_size=36,
            intermediate_size=40,
            num_hidden_layers=3,
            num_attention_heads=3,
            image_size=IMAGE_SIZE,
            patch_size=5,
            hidden_act="gelu",
        )
    )
    transformer = _transformer(14, 5, 28, image_dim=36, added_kv_proj_dim=32, **options)
    shake(encoder, vae, image_encoder, transformer)
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": IMAGE_SIZE}, crop_size={"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    )
    parts = _parts(encoder, vae, euler=False)
    pipeline = WanImageToVideoPipeline(
        transformer=transformer, image_encoder=image_encoder, image_processor=processor, **parts
    )
    return save(pipeline, folder, shard=False)


def build_flf2v(folder: Path) -> Path:
    """Wan 2.1 I2V with positions for the tokens of two images: 4 x 4 patches and a class each."""
    return build_wan21_i2v(folder, pos_embed_seq_len=2 * ((IMAGE_SIZE // 5) ** 2 + 1))


def build_wan22_t2v(folder: Path) -> Path:
    return _two_experts(WanPipeline, folder, seed=4, takes=7, boundary_ratio=0.875, shard=True)


def build_wan22_i2v(folder: Path) -> Path:
    return _two_experts(
        WanImageToVideoPipeline, folder, seed=5, takes=18, boundary_ratio=0.9, shard=False
    )


def build_wan22_ti2v(folder: Path) -> Path:
    """A VAE of residual blocks and patches, 16 pixels a latent cell."""
    torch.manual_seed(6)
    encoder = _encoder(20)
    vae = _vae(
        6,
        base_dim=6,
        decoder_base_dim=8,
        is_residual=True,
        scale_factor_spatial=16,
        **FOUR_LEVELS,
        **PATCHES,
    )
    transformer = _transformer(6, 6, 20)
    shake(encoder, vae, transformer)
    parts = _parts(encoder, vae, euler=False)
    pipeline = WanPipeline(transformer=transformer, expand_timesteps=True, **parts)
    return save(pipeline, folder, shard=False, height=64, width=96)


def build_small_ti2v(folder: Path) -> Path:
    """TI2V with a VAE as that of Wan 2.1 with patches: 8 pixels a latent cell."""
    torch.manual_seed(8)
    encoder = _encoder(20)
    vae = _vae(
        16, base_dim=6, dim_mult=[1, 2, 2], temperal_downsample=[True, True], **PATCHES,
    )  # fmt: skip
    transformer = _transformer(16, 16, 20)
    shake(encoder, vae, transformer)
    parts = _parts(encoder, vae, euler=True)
    pipeline = WanPipeline(transformer=transformer, expand_timesteps=True, **parts)
    return save(pipeline, folder, shard=False)


def distil(checkpoint: Path, folder: Path) -> Path:
    """The Wan checkpoint as FastWan's are published: of another pipeline class, with the steps
    of its family.
    """
    shutil.copytree(checkpoint, folder)
    for name, change in (
        ("model_index.json", {"_class_name": "WanDMDPipeline"}),
        ("triton_video.json", {}),
    ):
        values = json.loads((folder / name).read_text()) | change
        values.pop("num_inference_steps", None)
        (folder / name).write_text(json.dumps(values))
    return folder


def _two_experts(
    pipeline_class: type[Any],
    folder: Path,
    *,
    seed: int,
    takes: int,
    boundary_ratio: float,
    shard: bool,
) -> Path:
    torch.manual_seed(seed)
    encoder, vae = _encoder(20), _vae(7, base_dim=6, **FOUR_LEVELS)
    experts = [_transformer(takes, 7, 20) for _ in range(2)]
    shake(encoder, vae, *experts)
    pipeline = pipeline_class(
        transformer=experts[0],
        transformer_2=experts[1],
        boundary_ratio=boundary_ratio,
        **_parts(encoder, vae, euler=False),
    )
    return save(pipeline, folder, shard=shard)


def _parts(encoder: UMT5EncoderModel, vae: AutoencoderKLWan, *, euler: bool) -> dict[str, Any]:
    scheduler = (
        FlowMatchEulerDiscreteScheduler(shift=3.0)
        if euler
        else UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        )
    )
    return {"tokenizer": tokenizer(), "text_encoder": encoder, "vae": vae, "scheduler": scheduler}


def _encoder(text_dim: int, num_layers: int = 2) -> UMT5EncoderModel:
    return UMT5EncoderModel(
        UMT5Config(
            vocab_size=len(tokenizer()) + 3,
            d_model=text_dim,
            d_kv=10,
            d_ff=36,
            num_layers=num_layers,
            num_heads=3,
        )
    )


def _transformer(takes: int, makes: int, text_dim: int, **options: Any) -> WanTransformer3DModel:
    sizes = {"attention_head_dim": 16, "num_layers": 2, **options}
    return WanTransformer3DModel(
        num_attention_heads=2,
        in_channels=takes,
        out_channels=makes,
        text_dim=text_dim,
        freq_dim=32,
        ffn_dim=56,
        rope_max_seq_len=64,
        **sizes,
    )


def _vae(z_dim: int, **options: Any) -> AutoencoderKLWan:
    return AutoencoderKLWan(
        z_dim=z_dim,
        latents_mean=torch.randn(z_dim).tolist(),
        latents_std=(torch.rand(z_dim) + 0.5).tolist(),
        **{"num_res_blocks": 1, **options},
    )
