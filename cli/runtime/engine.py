"""The container engine of this machine: whether it is installed, answers and has an image."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.errors import ServerError

EngineName = Literal["docker", "podman"]
_TIMEOUT_S = 20


@dataclass(frozen=True)
class Engine:
    """A container engine; ``program`` is the absolute path of its client."""

    name: EngineName
    program: str

    def require_image(self, image: str) -> None:
        """Raise ServerError, with advice, if the engine does not answer or lacks the image."""
        if self._ask("image", "inspect", "--format", "{{.Id}}", image).returncode == 0:
            return
        answer = self._ask("info", "--format", "{{json .}}")
        if answer.returncode != 0:
            raise ServerError(
                f"{self.name} does not answer: {_last_line(answer.stderr)}; {_START[self.name]}"
            )
        target = image.rpartition("-")[2]
        raise ServerError(
            f"{self.name} has no image {image}; build it in a checkout of triton-video with "
            f"`{self.name} build --target {target if target in ('cpu', 'gpu') else 'cpu'} "
            f"-t {image} .`, or set another with --image"
        )

    def _ask(self, *words: str) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                [self.program, *words],
                capture_output=True,
                text=True,
                check=False,
                timeout=_TIMEOUT_S,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return subprocess.CompletedProcess(words, 1, "", str(error))


_START = {
    "docker": "start its daemon (dockerd), or get access to it (group docker, or DOCKER_HOST)",
    "podman": "run `podman info` for the reason",
}


def find_engine(name: EngineName) -> Engine:
    """Return the engine. Raises ServerError if it is not installed."""
    program = shutil.which(name)
    if program is None:
        raise ServerError(
            f"{name} is not installed, or not on the PATH: install it, or use --runtime embedded"
        )
    return Engine(name, program)


def has_gpus(devices: Path = Path("/dev")) -> bool:
    """Return whether this machine has an NVIDIA GPU and its driver."""
    return count_gpus(devices) > 0 or (devices / "dxg").exists()


def count_gpus(devices: Path = Path("/dev")) -> int:
    """Return the number of NVIDIA GPUs of this machine or container."""
    return len(list(devices.glob("nvidia[0-9]*")))


def default_image(version: str, gpus: bool) -> str:
    """Return the image of this version for this machine."""
    return f"triton-video:{version}-{'gpu' if gpus else 'cpu'}"


def _last_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1].strip().rstrip(".") if lines else "no output"
