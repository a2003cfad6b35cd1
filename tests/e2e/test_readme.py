"""The README's first videos, as they stand: only the port and the folder of the data are a
test's own.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import av
import pytest

from tests.conftest import ROOT
from tests.e2e.shell import folder as folder
from tests.e2e.shell import port as port
from tests.e2e.shell import running

README = (ROOT / "README.md").read_text(encoding="utf-8")
# twice what the README promises for a first run: other tests may keep the machine busy
LIMIT_S = 240


def blocks(heading: str, language: str) -> list[str]:
    """The blocks of a language under a heading."""
    section = re.search(rf"^### {heading}\n(.*?)(?=^##)", README, re.MULTILINE | re.DOTALL)
    assert section is not None
    return re.findall(rf"^```{language}\n(.*?)^```$", section[1], re.MULTILINE | re.DOTALL)


def require_video(path: Path, frames: int = 17) -> None:
    with av.open(path) as container:
        assert sum(1 for _ in container.decode(video=0)) == frames


@pytest.mark.slow
def test_readme_experiments_sample_makes_a_video(folder: Path, port: str) -> None:
    (text,) = blocks("For your experiments", "bash")
    # An own process behind it, so that there is a group to end.
    with running(f"{text}\necho done\nsleep 60", folder, port) as process:
        assert process.stdout is not None
        printed = [process.stdout.readline() for _ in range(2)]
    assert printed[0] == "outputs/a-blue-square-grows-on-a-black-background.mp4\n"
    require_video(folder / printed[0].strip())


@pytest.mark.slow
def test_readme_platform_sample_makes_a_video(folder: Path, port: str) -> None:
    (text,) = blocks("For your platform", "bash")
    with running(f"{text}\necho\necho done\nwait", folder, port) as process:
        assert process.stdout is not None
        printed = []
        for line in process.stdout:
            printed.append(line)
            if line == "done\n":
                break
    assert any(line.startswith("triton_video_") for line in printed)
    require_video(folder / "circle.mp4")


@pytest.mark.slow
def test_readme_application_sample_makes_a_video(folder: Path, port: str) -> None:
    (serve,), (program,) = (
        blocks("For your application", "bash"),
        blocks("For your application", "python"),
    )
    program = program.replace("30010", port)
    with running(serve, folder, port):
        wait = f"until curl -sf http://127.0.0.1:{port}/readyz; do sleep 0.2; done"
        subprocess.run(["bash", "-c", wait], stdout=subprocess.DEVNULL, timeout=LIMIT_S, check=True)
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", program], cwd=folder, timeout=LIMIT_S, check=True
        )
    require_video(folder / "circle.mp4")
