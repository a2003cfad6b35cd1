"""Headers and arrays have a max size, and a broken connection raises EOFError."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator

import numpy as np
import pytest

from pipeline.ranks import wire
from pipeline.ranks.messages import Done, FromRank, ToRank
from pipeline.ranks.wire import Channel, join, split

HEADER_BYTES, ARRAY_BYTES = 1 << 20, 8 << 30


@pytest.fixture
def ends() -> Iterator[tuple[Channel, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.settimeout(2)
    with ours, theirs:
        yield Channel(ours, FromRank), theirs


def header(**array: object) -> bytes:
    described = [[name, *value] for name, value in array.items()]  # type: ignore[misc]
    text = json.dumps({"message": {"kind": "done"}, "arrays": described}).encode()
    return struct.pack(wire._PREFIX.format, len(text)) + text


def test_header_over_the_max_size_is_refused(ends: tuple[Channel, socket.socket]) -> None:
    channel, theirs = ends
    theirs.sendall(struct.pack(wire._PREFIX.format, HEADER_BYTES + 1))
    with pytest.raises(ValueError, match=f"a message header of {HEADER_BYTES + 1} bytes"):
        channel.receive()


def test_header_of_the_max_size_is_read(ends: tuple[Channel, socket.socket]) -> None:
    channel, theirs = ends
    theirs.sendall(struct.pack(wire._PREFIX.format, HEADER_BYTES) + b"x")
    theirs.close()
    with pytest.raises(EOFError):
        channel.receive()


@pytest.mark.parametrize(("rows", "error"), [(ARRAY_BYTES // 4 + 1, ValueError), (2, EOFError)])
def test_array_over_the_max_size_is_refused(
    ends: tuple[Channel, socket.socket], rows: int, error: type[Exception]
) -> None:
    channel, theirs = ends
    theirs.sendall(header(latents=("float32", [rows])))
    theirs.close()
    with pytest.raises(error):
        channel.receive()


def test_array_of_the_max_size_is_read(
    ends: tuple[Channel, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert wire.MAX_ARRAY_BYTES == ARRAY_BYTES
    monkeypatch.setattr(wire, "MAX_ARRAY_BYTES", 16)
    channel, theirs = ends
    sender = Channel(theirs, ToRank)
    sender.send(Done(), {"latents": np.arange(4, dtype=np.float32)})
    np.testing.assert_array_equal(channel.receive()[1]["latents"], np.arange(4))
    sender.send(Done(), {"latents": np.arange(5, dtype=np.float32)})
    with pytest.raises(ValueError, match="an array of 20 bytes"):
        channel.receive()


@pytest.mark.parametrize("shape", [[-1], [2, -3], [1.5], ["2"]])
def test_invalid_shape_is_refused(ends: tuple[Channel, socket.socket], shape: list[object]) -> None:
    channel, theirs = ends
    theirs.sendall(header(latents=("float32", shape)))
    with pytest.raises(ValueError, match="an array of float32"):
        channel.receive()


def test_reset_connection_raises_eof_error(ends: tuple[Channel, socket.socket]) -> None:
    channel, theirs = ends
    channel.send(Done())  # never read, so that closing resets the connection
    theirs.close()
    with pytest.raises(EOFError, match="the other end has closed"):
        channel.receive()


def test_waiting_is_true_for_data_and_for_end_of_file(
    ends: tuple[Channel, socket.socket],
) -> None:
    channel, theirs = ends
    assert channel.waiting() is False
    theirs.close()
    assert channel.waiting() is True, "the end too"


def test_split_is_the_inverse_of_join() -> None:
    batch = [{"a": np.zeros(1), "b.c": np.ones(2)}, {}, {"a": np.ones(3)}]
    parted = split(join(batch), 3)
    assert [list(arrays) for arrays in parted] == [["a", "b.c"], [], ["a"]]
    np.testing.assert_array_equal(parted[2]["a"], np.ones(3))


@pytest.mark.parametrize("name", ["3.a", "a", "-1.a", ".a", "x.a", ""])
def test_array_name_without_a_request_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="in a batch of 3"):
        split({name: np.zeros(1)}, 3)
