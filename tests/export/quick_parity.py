"""Stands in for `export.reparity`: every part equals torch, unless a file in ``$QUICK_PART``
says otherwise.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

if __name__ == "__main__":
    if (Path(os.environ["QUICK_PART"]) / f"differs.{sys.argv[1]}").exists():
        sys.exit("export.parity.limits.ParityError: first differs from torch")
