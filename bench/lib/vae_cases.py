"""What `bench/vae.py` decodes, with which engines, and one line of its table."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

from bench.lib.result import seconds
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
    """A VAE and clips for it, each a side in pixels and a number of frames; tiles have the side
    ``tile``.

    ``config`` makes a VAE of random weights; without it the bundled checkpoint's is taken.
    """

    name: str
    clips: Sequence[tuple[int, int]]
    tile: int
    config: Mapping[str, object] = field(default_factory=dict)


# Of Wan 2.1's layout, with a sixth of its channels: the time of a CPU is what limits it.
WAN21 = {"base_dim": 16, "z_dim": 16, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 2}
CASES = (
    Case("bundled", clips=[(64, 17), (64, 65)], tile=32),
    Case("Wan 2.1's layout", clips=[(128, 17), (128, 33)], tile=64, config=WAN21),
)


@dataclass(frozen=True)
class Result:
    case: Case
    clip: tuple[int, int]
    engine: Engine
    seconds: list[float]
    beside: list[float]
    memory: int
    error: float

    def row(self) -> list[str]:
        size = "{0}x{0}x{1}".format(*self.clip)
        ratio, memory = (
            f"{median(self.seconds) / median(self.beside):.2f}",
            f"{self.memory / 2**20:.0f} MiB",
        )
        error = "-" if self.engine.name == "diffusers" else f"{self.error:.1e}"
        return [self.case.name, size, self.engine.name, seconds(self.seconds), ratio, memory, error]


def measure(
    case: Case, engines: Sequence[Engine], folder: Path, threads: int, repeats: int
) -> Iterator[Result]:
    """The first engine is what the others are compared with. Graphs and frames go into the new
    folder ``folder``.
    """
    folder.mkdir()
    wanted = {engine.name.partition(" ")[0] for engine in engines}
    vae = _run("vae", folder, {"config": dict(case.config), "bundled": str(BUNDLED / "vae")})[
        "folder"
    ]
    for name in ("chunked", "tile"):
        if name in wanted:
            note(f"exporting {case.name} for {name}")
            _run("export", folder, {"vae": vae, "engine": name, "bundled": str(BUNDLED)})
    for clip in case.clips:
        yield from decode_clip(
            case, clip, engines, folder, {"vae": vae, "threads": threads, "repeats": repeats}
        )


def decode_clip(
    case: Case,
    clip: tuple[int, int],
    engines: Sequence[Engine],
    folder: Path,
    settings: Mapping[str, object],
) -> Iterator[Result]:
    """``folder`` holds the graphs."""
    beside: list[float] = []
    for engine in engines:
        asked = {
            **settings,
            **asdict(engine),
            "side": clip[0],
            "frames": clip[1],
            "tile": case.tile,
        }
        found = _run("decode", folder, asked)
        beside = beside or found["seconds"]
        result = Result(
            case, clip, engine, found["seconds"], beside, found["memory"], found["error"]
        )
        note(", ".join(result.row()))
        yield result


def _run(action: str, folder: Path, asked: Mapping[str, object]) -> dict:
    command = [sys.executable, str(CHILD), action, str(folder), json.dumps(asked)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{action} {asked} failed: {done.stderr.strip()}")
    return json.loads(done.stdout.splitlines()[-1])
