"""One export in a separate process: its time, the most memory it had, and the disk it took."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

CHILD = Path(__file__).with_name("child.py")
_EVERY_S = 0.05


@dataclass(frozen=True)
class Export:
    """In bytes: ``before`` is RssAnon once all is imported, ``anonymous`` the highest later;
    ``resident_before`` is VmRSS then, ``resident`` VmHWM at the end.
    """

    seconds: float
    before: int
    anonymous: int
    resident_before: int
    resident: int
    written: int


def export(
    side: str, part: str, class_name: str, folder: Path, output: Path, precision: str
) -> Export:
    """Raises ``CalledProcessError`` when the child fails."""
    command = [
        sys.executable,
        str(CHILD),
        side,
        part,
        class_name,
        str(folder),
        str(output),
        precision,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        anonymous = 0
        while child.poll() is None:
            anonymous = max(anonymous, _anonymous(child.pid))
            time.sleep(_EVERY_S)
        assert child.stdout is not None
        said = child.stdout.read()
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, command)
    seconds, before, resident_before, resident = json.loads(said.splitlines()[-1])
    # A file with another name as well is the checkpoint's own.
    written = sum(
        status.st_size for file in output.iterdir() if (status := file.stat()).st_nlink == 1
    )
    return Export(seconds, before, anonymous, resident_before, resident, written)


def _anonymous(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon:")), 0)
