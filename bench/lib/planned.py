"""The memory that `generate` says it needs, and the memory that it uses."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.lib.process_memory import Peaks, watched

UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9}
SENTENCE = re.compile(r"memory: needs ([\d.]+) (\wB|B)\b.* on the host$", re.MULTILINE)

SEPARATE = (
    "from cli.run.backend import Backend; Backend.share_imports = lambda *_: None\n"
    "from cli.main import main; main()"
)
"""The command line with an import of torch in each process, as on a GPU and in `serve`: that is
what the plan counts.
"""


@dataclass(frozen=True)
class Outcome:
    """The planned bytes of the host, and the measured peaks of one run."""

    planned: int
    peaks: Peaks

    @property
    def ratio(self) -> float:
        """The planned memory over the measured peak."""
        return self.planned / self.peaks.total


def run(model: Path, flags: Sequence[str]) -> Outcome:
    """Make one video on the CPU. Raises ``CalledProcessError`` if `generate` fails."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(sys.executable, "-c", SEPARATE, "generate", "--model-path", str(model)),
            *("--prompt", "p", "--output-path", folder, "--runtime", "embedded", *flags),
        ]
        with (
            subprocess.Popen(
                command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            ) as process,
            watched(process.pid) as peaks,
        ):
            _, notes = process.communicate()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, stderr=notes)
    found = SENTENCE.search(notes)
    assert found, notes
    return Outcome(round(float(found[1]) * UNITS[found[2]]), peaks)
