"""What `bench/vae.py` decodes, with which engines, and one line of its table."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

from bench.lib.serving import BUNDLED, note

HEADER = ("VAE", "frames", "engine", "time", "ratio", "memory", "max abs error")
CHILD = Path(__file__).with_name("vae_decode.py")


@dataclass(frozen=True)
class Engine:
    """``name`` begins with the engine's own, which is what ``--only`` looks at."""

    name: str
    precision: str = "fp32"
    tiled: bool = False


ENGINES = (
    Engine("diffusers"),
    Engine("chunked"),
    Engine("chunked in tiles", tiled=True),
    Engine("tile"),
    Engine("tile in tiles", tiled=True),
    Engine("torch"),
    Engine("torch bf16", precision="bf16"),
)


@dataclass(frozen=True)
class Case:
    """A VAE and a clip for it. ``config`` makes one of random weights; without it the bundled checkpoint's is taken."""

    name: str
    side: int
    frames: int
    tile: int
    config: Mapping[str, object] = field(default_factory=dict)


# Of Wan 2.1's layout, with a sixth of its channels: the time of a CPU is what limits it.
WAN21 = {"base_dim": 16, "z_dim": 16, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 2}
CASES = (
    Case("bundled", side=64, frames=17, tile=32),
    Case("Wan 2.1's layout", side=256, frames=17, tile=128, config=WAN21),
    Case("Wan 2.1's layout", side=256, frames=33, tile=128, config=WAN21),
)


@dataclass(frozen=True)
class Result:
    case: Case
    engine: Engine
    seconds: list[float]
    beside: list[float]
    memory: int
    error: float

    def row(self) -> list[str]:
        times = f"{median(self.seconds):.2f} s ({min(self.seconds):.2f}-{max(self.seconds):.2f})"
        size = f"{self.case.side}x{self.case.side}x{self.case.frames}"
        ratio, memory = f"{median(self.seconds) / median(self.beside):.2f}", f"{self.memory / 2**20:.0f} MiB"
        error = "-" if self.engine.name == "diffusers" else f"{self.error:.1e}"
        return [self.case.name, size, self.engine.name, times, ratio, memory, error]


def measure(case: Case, engines: Sequence[Engine], folder: Path, threads: int, repeats: int) -> Iterator[Result]:
    """The first engine is what the others are compared with. Graphs and frames go into the new folder ``folder``."""
    folder.mkdir()
    wanted = {engine.name.partition(" ")[0] for engine in engines}
    vae = _run("vae", folder, {"config": dict(case.config), "bundled": str(BUNDLED / "vae")})["folder"]
    for name in ("chunked", "tile"):
        if name in wanted:
            note(f"exporting {case.name} for {name}")
            _run("export", folder, {"vae": vae, "engine": name, "bundled": str(BUNDLED)})
    beside: list[float] = []
    for engine in engines:
        asked = {**asdict(engine), "vae": vae, "side": case.side, "frames": case.frames, "tile": case.tile}
        found = _run("decode", folder, {**asked, "threads": threads, "repeats": repeats})
        beside = beside or found["seconds"]
        note(f"{case.name}, {engine.name}: {median(found['seconds']):.2f} s")
        yield Result(case, engine, found["seconds"], beside, found["memory"], found["error"])


def _run(action: str, folder: Path, asked: Mapping[str, object]) -> dict:
    command = [sys.executable, str(CHILD), action, str(folder), json.dumps(asked)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{action} {asked} failed: {done.stderr.strip()}")
    return json.loads(done.stdout.splitlines()[-1])
