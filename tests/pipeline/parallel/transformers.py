"""Tiny transformers of each kind that is sharded, with token counts that no degree divides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from diffusers.models.transformers.transformer_hunyuan_video import HunyuanVideoTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

Built = tuple[torch.nn.Module, dict[str, Any]]
TEXT_DIM, CHANNELS = 10, 4
LATENTS = (1, CHANNELS, 3, 6, 10)  # 3 x 3 x 5 = 45 tokens


def wan(*, heads: int = 3, per_token: bool = False, batch: int = 1) -> Built:
    torch.manual_seed(0)
    model = WanTransformer3DModel(
        num_attention_heads=heads, attention_head_dim=12, in_channels=CHANNELS,
        out_channels=CHANNELS,
        text_dim=TEXT_DIM, freq_dim=16, ffn_dim=40, num_layers=2,
    )  # fmt: skip
    timestep = torch.full((batch,), 700.0)
    if per_token:
        # Wan 2.2 TI2V: the tokens of the image are clean, at timestep 0.
        timestep = torch.cat((torch.zeros(batch, 15), torch.full((batch, 30), 700.0)), dim=1)
    inputs = {
        "hidden_states": torch.randn(batch, *LATENTS[1:]),
        "timestep": timestep,
        "encoder_hidden_states": torch.randn(batch, 7, TEXT_DIM),
    }
    return _shaken(model), inputs


def hunyuan_video(lengths: tuple[int, ...]) -> Built:
    torch.manual_seed(0)
    model = HunyuanVideoTransformer3DModel(
        in_channels=CHANNELS, out_channels=CHANNELS, num_attention_heads=3, attention_head_dim=12,
        num_layers=1,
        num_single_layers=1, num_refiner_layers=1, text_embed_dim=TEXT_DIM, pooled_projection_dim=9,
        rope_axes_dim=(4, 4, 4),
    )  # fmt: skip
    batch = len(lengths)
    inputs = {
        "hidden_states": torch.randn(batch, *LATENTS[1:]),
        "timestep": torch.full((batch,), 700.0),
        "encoder_hidden_states": torch.randn(batch, 7, TEXT_DIM),
        "encoder_attention_mask": torch.arange(7) < torch.tensor(lengths)[:, None],
        "pooled_projections": torch.randn(batch, 9),
        "guidance": torch.full((batch,), 6000.0),
    }
    return _shaken(model), inputs


TRANSFORMERS: dict[str, Callable[[], Built]] = {
    "wan": wan,
    "wan, heads that divide": lambda: wan(heads=4, batch=2),
    "wan, a timestep per token": lambda: wan(per_token=True),
    "hunyuan-video": lambda: hunyuan_video((5,)),
    "hunyuan-video, texts of two lengths": lambda: hunyuan_video((5, 7)),
}


def _shaken(model: torch.nn.Module) -> torch.nn.Module:
    """Add noise to all parameters, because zeros or ones would hide an error in a branch."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()
