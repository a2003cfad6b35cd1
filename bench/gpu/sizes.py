"""The sizes that sections measure: those of Wan 2.1 1.3B, or toy ones of the same structure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_VAE = {"z_dim": 16, "dim_mult": [1, 2, 4, 4], "temperal_downsample": [False, True, True]}


@dataclass(frozen=True)
class Shape:
    """A video: height and width in pixels, and frames."""

    height: int
    width: int
    frames: int

    @property
    def latents(self) -> tuple[int, int, int]:
        """Frames, rows and columns of its latents (a VAE of 4 x 8 x 8)."""
        return (self.frames - 1) // 4 + 1, self.height // 8, self.width // 8


@dataclass(frozen=True)
class Sizes:
    """Configs of diffusers' classes, and the videos to make with them."""

    tiny: bool
    transformer: Mapping[str, Any]
    vae: Mapping[str, Any]
    long: Shape
    short: Shape

    @property
    def text_dim(self) -> int:
        """Width of the text embeddings."""
        return self.transformer["text_dim"]


PUBLISHED = Sizes(
    tiny=False,
    transformer={
        "num_attention_heads": 12,
        "attention_head_dim": 128,
        "ffn_dim": 8960,
        "num_layers": 30,
        "text_dim": 4096,
        "freq_dim": 256,
        "rope_max_seq_len": 1024,
    },
    vae={**_VAE, "base_dim": 96, "num_res_blocks": 2},
    long=Shape(480, 832, 81),
    short=Shape(480, 832, 21),
)
TINY = Sizes(
    tiny=True,
    transformer={
        "num_attention_heads": 2,
        "attention_head_dim": 24,
        "ffn_dim": 64,
        "num_layers": 2,
        "text_dim": 32,
        "freq_dim": 32,
        "rope_max_seq_len": 64,
    },
    vae={**_VAE, "base_dim": 8, "num_res_blocks": 1},
    long=Shape(64, 96, 9),
    short=Shape(32, 48, 9),
)
