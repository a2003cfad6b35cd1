"""Part (b): ``triton-video generate``, process start to saved file, beside a plain diffusers
script.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.lib.result import Result, compare_seconds
from bench.lib.serving import note
from pipeline.settings import Precision

COLD_GOAL = 1.1
FIRST_GOAL = 1.3
ROOT = Path(__file__).resolve().parents[2]
PLAIN = Path(__file__).with_name("plain_diffusers.py")
PROMPT, SEED = "a red circle moves right on a white background", 7
TORCH_NAMES: dict[Precision, str] = {"fp32": "float32", "bf16": "bfloat16"}


class CommandError(Exception):
    """A command that is being timed has failed."""


def measure(
    model_path: Path, precisions: Sequence[Precision], threads: int, repeats: int, steps: int
) -> Iterator[Result]:
    """Yield a first run, with nothing in the cache, and a run that finds its repository there."""
    with TemporaryDirectory(prefix="triton-video-bench-") as folder:
        bench = _Bench(model_path.resolve(), Path(folder), threads, steps)
        bench.theirs(precisions[0])  # reads what both sides read from disk, untimed
        first, beside = [], []
        for number in range(repeats):
            first.append(bench.ours(precisions[0], f"cache-{number}"))
            beside.append(bench.theirs(precisions[0]))
        note(f"{precisions[0]}: {repeats} first runs measured")
        yield compare_seconds("b", "first generate ever", precisions[0], first, beside, FIRST_GOAL)
        for precision in precisions:
            bench.ours(precision)  # renders this precision's repository, untimed
            ours, theirs = [], []
            for _ in range(repeats):
                ours.append(bench.ours(precision))
                theirs.append(bench.theirs(precision))
            note(f"{precision}: {repeats} cold runs measured")
            yield compare_seconds(
                "b", "cold generate, whole process", precision, ours, theirs, COLD_GOAL
            )


class _Bench:
    def __init__(self, model_path: Path, folder: Path, threads: int, steps: int):
        self._model_path, self._folder, self._threads, self._steps = (
            str(model_path),
            folder,
            threads,
            str(steps),
        )
        self._environment = {
            **os.environ,
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": str(threads),
        }

    def ours(self, precision: Precision, cache: str = "cache") -> float:
        """Return the seconds of `generate`; ``cache`` names the folder of its cache."""
        return self._run(
            cache, "-m", "cli", "generate", "--prompt", PROMPT, "--seed", str(SEED),
            "--num-inference-steps", self._steps,
            "--model-path", self._model_path, "--precision", precision, "--threads",
            str(self._threads), "--quiet",
            "--output-path", str(self._folder), "--output-file-name", "ours.mp4", "--overwrite",
        )  # fmt: skip

    def theirs(self, precision: Precision) -> float:
        return self._run(
            "unused", str(PLAIN), self._model_path, PROMPT, str(SEED), self._steps,
            TORCH_NAMES[precision], str(self._threads),
            str(self._folder / "theirs.mp4"),
        )  # fmt: skip

    def _run(self, cache: str, *arguments: str) -> float:
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=self._environment | {"TRITON_VIDEO_CACHE": str(self._folder / cache)},
            capture_output=True,
            text=True,
            check=False,
        )
        took = time.perf_counter() - began
        if done.returncode:
            last = done.stderr.strip().rpartition("\n")[2]
            raise CommandError(
                f"{Path(arguments[0]).name} failed with exit code {done.returncode}: {last}"
            )
        return took
