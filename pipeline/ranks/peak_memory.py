"""The most memory that a process has used between two looks."""

from __future__ import annotations

import re
from pathlib import Path

import torch

STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"  # of the resident memory, see proc_pid_clear_refs(5)
PEAK = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)


def take_peak_bytes(device: torch.device) -> int | None:
    """Return the peak since the last call, and begin anew; None where it is not known.

    On a GPU it is what PyTorch had allocated on ``device``, otherwise the resident memory of this
    process.
    """
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        return peak
    try:
        status = STATUS.read_text(encoding="utf-8")
        CLEAR_REFS.write_text(RESET_PEAK, encoding="utf-8")
    except OSError:  # a kernel without it: the peak since the start says nothing of one video
        return None
    found = PEAK.search(status)
    return int(found[1]) << 10 if found else None
