"""Check the loading reports of diffusers and transformers, which accept incomplete weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import CheckpointError

MAX_SHOWN = 3


def require_loaded(report: Mapping[str, Any], folder: Path) -> None:
    """Check the ``output_loading_info`` of ``from_pretrained``: every weight must come from a file,
    in the model's shape.

    Weights that no file holds would be uninitialised memory. Raises ``CheckpointError``, which
    names the first ``MAX_SHOWN``.
    """
    for key, what in (
        ("missing_keys", "no file holds"),
        ("mismatched_keys", "of another shape are"),
        ("error_msgs", "loading failed:"),
    ):
        if found := sorted(map(str, report.get(key) or ())):
            more = f" and {len(found) - MAX_SHOWN} more" if len(found) > MAX_SHOWN else ""
            raise CheckpointError(f"{folder}: {what} {', '.join(found[:MAX_SHOWN])}{more}")
