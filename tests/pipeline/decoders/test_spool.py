"""Frames are read back from disk unchanged, and a full disk raises a one-line error."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from pipeline.decoders.spool import Spool
from pipeline.errors import OutputError


def test_interleaved_clips_are_read_back_whole() -> None:
    rng = np.random.default_rng(0)
    clips = [rng.random((5, *shape, 3), np.float32) for shape in ((4, 6), (2, 3))]
    with Spool() as spool:
        for part in (slice(0, 1), slice(1, 3), slice(3, 5)):
            for index, clip in enumerate(clips):
                spool.append(index, clip[part])

        for index, clip in enumerate(clips):
            np.testing.assert_array_equal(spool.read(index, 0, 5), clip)
            np.testing.assert_array_equal(spool.read(index, 2, 4), clip[2:4])


@contextmanager
def file_limit(size: int) -> Iterator[None]:
    """Limit every file of this process to ``size`` bytes. Put only the tested call into the block:
    pytest's own output is a file where it is redirected.
    """
    limits, handler = (
        resource.getrlimit(resource.RLIMIT_FSIZE),
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN),
    )
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_raises_output_error() -> None:
    told = "decoded tiles cannot be kept on disk: File too large"
    with Spool() as spool, pytest.raises(OutputError, match=told), file_limit(4096):
        spool.append(0, np.zeros((1, 4096), np.float32))


def test_the_error_names_a_missing_temporary_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "none"))
    with pytest.raises(
        OutputError, match=r"none: a file for decoded tiles cannot be created: No such file"
    ):
        Spool()
