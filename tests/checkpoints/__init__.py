"""Tiny random checkpoints in Diffusers format, of the real classes and in sizes nobody would
choose.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from tests.checkpoints import hunyuan, wan
from tests.checkpoints.wan import build

__all__ = ["BUILDERS", "VARIANTS", "build"]

BUILDERS: Mapping[str, Callable[[Path], Path]] = {
    "wan2.1-t2v": wan.build_wan21_t2v,
    "wan2.1-i2v": wan.build_wan21_i2v,
    "wan2.2-t2v": wan.build_wan22_t2v,
    "wan2.2-ti2v": wan.build_wan22_ti2v,
    "wan2.2-i2v": wan.build_wan22_i2v,
    "hunyuan-video": hunyuan.build_hunyuan_video,
}
"""Family -> what writes a checkpoint of it into a folder, and returns that. Some weights are in
shards.
"""

VARIANTS: Mapping[str, Callable[[Path], Path]] = {
    "wan2.1-flf2v": wan.build_flf2v,
    "small-ti2v": wan.build_small_ti2v,
}
"""Checkpoints of the same families with other sizes or inputs."""
