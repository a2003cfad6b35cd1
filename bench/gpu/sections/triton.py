"""`triton-video generate` with the bundled checkpoint, through a real tritonserver."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from bench.gpu.results import report
from bench.gpu.sizes import Sizes

TIMEOUT_S = 240
FLAGS = {
    "defaults": (),
    "bf16, VAE in torch": ("--precision", "bf16", "--vae-engine", "torch"),
}


def run(work: Path, sizes: Sizes) -> None:  # noqa: ARG001 - every section's signature
    """Report what each run printed, and its seconds with the start of the server."""
    command = [sys.executable, "-m", "cli", "generate", "--prompt", "a red circle moves right"]
    command += ["--seed", "3", "--output-path", str(work / "videos"), "--save-output", "--json"]
    environment = {**os.environ, "TRITON_VIDEO_CACHE": str(work / "cache")}
    for name, flags in FLAGS.items():
        started = time.perf_counter()
        done = subprocess.run(
            [*command, *flags],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            env=environment,
            check=False,
        )
        lines = done.stdout.strip().splitlines() or done.stderr.strip().splitlines() or [""]
        note = f"{time.perf_counter() - started:.1f} s; {lines[-1][:400]}"
        verdict = "ok" if done.returncode == 0 else f"exit {done.returncode}"
        report(f"generate, {name}", verdict, note=note)
        if done.returncode:
            print(done.stderr[-3000:], flush=True)
