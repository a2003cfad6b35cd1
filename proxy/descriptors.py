"""File descriptors: raises their limit, and bounds connections by it."""

from __future__ import annotations

import logging
import resource
from pathlib import Path

MAX_DESCRIPTORS = 65_536  # more would slow down programs that close every possible descriptor
# For the database (up to three files for each of five SQLite connections), the store, Tritons,
# and connections that are about to be closed.
RESERVED_DESCRIPTORS = 32
DESCRIPTORS_PER_CONNECTION = 2  # its socket, and the file that it sends or receives
LOW_CONNECTIONS = 100
logger = logging.getLogger(__name__)


def raise_limit() -> None:
    """Raise the soft limit of open files to the hard limit, at most to ``MAX_DESCRIPTORS``."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MAX_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def connections_that_fit(wanted: int) -> int:
    """Return ``wanted``, or the number of connections that the limit of open files allows."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return wanted
    fit = max(
        1,
        (limit - len([*Path("/proc/self/fd").iterdir()]) - RESERVED_DESCRIPTORS)
        // DESCRIPTORS_PER_CONNECTION,
    )
    if fit < min(wanted, LOW_CONNECTIONS):
        logger.warning(
            "at most %d connections at a time: the limit of open files is %d (ulimit -n)",
            fit,
            limit,
        )
    return min(wanted, fit)
