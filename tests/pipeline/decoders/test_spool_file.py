"""The file of decoded tiles survives partial writes and is stored unnamed in ``TMPDIR``."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from pipeline.decoders.spool import Spool


def test_partial_writes_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    write, clip = os.pwrite, np.random.default_rng(0).random((3, 4, 5), np.float32)
    monkeypatch.setattr(os, "pwrite", lambda file, data, place: write(file, data[:7], place))
    with Spool() as spool:
        spool.append(0, clip[:2])
        spool.append(1, -clip)
        spool.append(0, clip[2:])
        np.testing.assert_array_equal(spool.read(0, 0, 3), clip)
        np.testing.assert_array_equal(spool.read(0, 1, 2), clip[1:2])
        np.testing.assert_array_equal(spool.read(1, 0, 3), -clip)


def test_frames_are_stored_as_float32_whatever_their_memory_layout() -> None:
    clip = np.arange(24, dtype=np.float64).reshape(2, 3, 4).transpose(0, 2, 1)
    with Spool() as spool:
        spool.append(0, clip)
        read = spool.read(0, 0, 2)
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, clip)


def test_reading_frames_past_the_end_is_an_error() -> None:
    with Spool() as spool:
        spool.append(0, np.zeros((2, 3), np.float32))
        with pytest.raises(ValueError, match="zip"):
            spool.read(0, 1, 3)


def test_file_is_unnamed_and_closed_on_exit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with Spool() as spool:
        spool.append(0, np.zeros((1, 3), np.float32))
        assert list(tmp_path.iterdir()) == []
        assert os.fstat(spool._file.fileno()).st_size == 12
        assert os.fstat(spool._file.fileno()).st_dev == tmp_path.stat().st_dev
    assert spool._file.closed
