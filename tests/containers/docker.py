"""The real engine, as tests ask it."""

from __future__ import annotations

import subprocess
import time

from cli.runtime.container_command import LABEL
from cli.runtime.engine import Engine


class Docker:
    def __init__(self, program: str):
        self.engine = Engine("docker", program)

    def __call__(self, *words: str) -> str:
        """What it answers. Fails with what it says on its standard error."""
        ended = subprocess.run(
            [self.engine.program, *words], capture_output=True, text=True, check=False, timeout=120
        )
        assert ended.returncode == 0, f"docker {' '.join(words)}: {ended.stderr}"
        return ended.stdout.strip()

    def in_image(self, image: str, *words: str) -> str:
        """What a program prints in a container of the image."""
        return self(
            "run",
            "--rm",
            "--network",
            "none",
            "--no-healthcheck",
            "--entrypoint",
            words[0],
            image,
            *words[1:],
        )

    def runs(self) -> list[str]:
        """The ids of the containers of `generate` and `serve`, running or not."""
        return self("ps", "--all", "--quiet", "--filter", f"label={LABEL}").split()

    def serving(self) -> str:
        """The id of the one that serves, once it does."""
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            for container in self("ps", "--quiet", "--filter", f"label={LABEL}").split():
                if "--until-stdin-ends" in self("inspect", "--format", "{{.Args}}", container):
                    return container
            time.sleep(0.1)
        raise AssertionError("no container serves")

    def require_none_left(self, seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while (left := self.runs()) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert left == []
