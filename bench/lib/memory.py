"""Part (c): how the memory of VAE decoding grows with the number of frames, ours beside
diffusers'.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from bench.lib.result import Result
from bench.lib.serving import note, rendered
from pipeline.checkpoint.folder import Checkpoint

FLAT_GOAL = 1.1
FRAMES = (17, 65, 161)
ENOUGH_REPEATS = 3  # memory varies less than time, and a run takes long
CHILD = Path(__file__).with_name("decode_memory.py")


def measure(model_path: Path, threads: int, repeats: int, size: int) -> Iterator[Result]:
    """``size`` is the side of the frames in pixels. The VAE computes in float32 whatever the
    precision is.
    """
    info = Checkpoint.open(model_path).info
    ours = rendered(model_path, "fp32", threads) / "vae_decoder" / "1"
    side = size // info.spatial_compression
    repeats = min(repeats, ENOUGH_REPEATS)
    base: tuple[float, float] | None = None
    for frames in FRAMES:
        latents = (frames - 1) // info.temporal_compression + 1
        mine = median(_growth("ours", ours, latents, side, threads) for _ in range(repeats))
        theirs = median(
            _growth("diffusers", model_path / "vae", latents, side, threads) for _ in range(repeats)
        )
        base = base or (mine, theirs)
        grown, grown_beside = mine / base[0], theirs / base[1]
        met = None if frames == FRAMES[0] else grown <= FLAT_GOAL
        note(f"decoding {frames} frames: {_mib(mine)} beside {_mib(theirs)}")
        yield Result(
            "c", f"memory of decoding {frames} frames, {size}x{size}", "fp32",
            f"{_mib(mine)} (x{grown:.2f})", f"{_mib(theirs)} (x{grown_beside:.2f})",
            f"{mine / theirs:.2f}",
            "-" if met is None else f"ours <= x{FLAT_GOAL:g}", met,
        )  # fmt: skip


def _growth(which: str, folder: Path, latents: int, side: int, threads: int) -> int:
    command = [
        sys.executable,
        str(CHILD),
        which,
        str(folder.resolve()),
        str(latents),
        str(side),
        str(threads),
    ]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _mib(size: float) -> str:
    return f"{size / 2**20:.0f} MiB"
