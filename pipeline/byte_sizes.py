"""Format numbers of bytes for people."""

from __future__ import annotations


def human_size(count: float) -> str:
    """Format a number of bytes in decimal units, such as ``1.2 GB``."""
    value, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:.0f} {units[0]}" if units[0] == "B" else f"{value:.1f} {units[0]}"
