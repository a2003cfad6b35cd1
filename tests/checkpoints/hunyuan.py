"""HunyuanVideo: two text encoders, and a VAE of its own class."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import (
    AutoencoderKLHunyuanVideo,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideoPipeline,
    HunyuanVideoTransformer3DModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, LlamaConfig, LlamaModel

from tests.checkpoints.parts import save, shake, tokenizer


def build_hunyuan_video(folder: Path) -> Path:
    """LLaMA has four layers, of which the last two make nothing that the transformer sees."""
    torch.manual_seed(7)
    words = tokenizer(start=True)
    llama = LlamaModel(
        LlamaConfig(
            vocab_size=len(words) + 5,
            hidden_size=24,
            intermediate_size=36,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=512,
            # as usual its embeddings would be too small for a mistake to show
            initializer_range=0.1,
        )
    )
    clip = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(words) + 2,
            hidden_size=20,
            intermediate_size=28,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=77,
            eos_token_id=words.eos_token_id,
            bos_token_id=words.convert_tokens_to_ids("<s>"),
            pad_token_id=words.pad_token_id,
        )
    )
    transformer = HunyuanVideoTransformer3DModel(
        in_channels=6,
        out_channels=6,
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=1,
        num_single_layers=1,
        num_refiner_layers=1,
        text_embed_dim=24,
        pooled_projection_dim=20,
        rope_axes_dim=(4, 6, 6),
    )
    vae = AutoencoderKLHunyuanVideo(
        latent_channels=6, block_out_channels=(4, 8, 12, 12), layers_per_block=1, norm_num_groups=2
    )
    shake(llama, clip, transformer, vae)
    pipeline = HunyuanVideoPipeline(
        text_encoder=llama,
        tokenizer=words,
        text_encoder_2=clip,
        tokenizer_2=tokenizer(start=True),
        transformer=transformer,
        vae=vae,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
    )
    return save(pipeline, folder, shard=True)
