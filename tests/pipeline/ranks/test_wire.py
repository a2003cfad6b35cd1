"""Messages between leader and ranks arrive as sent, and invalid ones are refused."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator

import numpy as np
import pytest

from pipeline.ranks.messages import Done, FromRank, Step, ToRank, Verdict
from pipeline.ranks.wire import Channel, join, split


@pytest.fixture
def ends() -> Iterator[tuple[Channel, socket.socket]]:
    """Yield the leader's channel, and the bare socket of the rank."""
    ours, theirs = socket.socketpair()
    ours.settimeout(2)
    with ours, theirs:
        yield Channel(ours, FromRank), theirs


def test_message_and_arrays_arrive_as_sent(ends: tuple[Channel, socket.socket]) -> None:
    leader, theirs = ends
    arrays = {
        "latents": np.arange(12, dtype=np.float32).reshape(3, 4).T,
        "none": np.zeros((0, 3), dtype=np.int64),
    }

    Channel(theirs, ToRank).send(Done(), arrays)

    message, received = leader.receive()
    assert message == Done()
    assert list(received) == ["latents", "none"]
    for name, array in arrays.items():
        np.testing.assert_array_equal(received[name], array)
        assert received[name].dtype == array.dtype


def test_messages_arrive_in_order_in_both_directions(ends: tuple[Channel, socket.socket]) -> None:
    leader, theirs = ends
    rank = Channel(theirs, ToRank)
    for index in range(3):
        rank.send(Step(steps={0: index, 2: 0}))
    leader.send(Verdict(stop=frozenset({2})))

    assert [leader.receive()[0] for _ in range(3)] == [
        Step(steps={0: index, 2: 0}) for index in range(3)
    ]
    assert not leader.waiting()
    assert rank.receive()[0] == Verdict(stop=frozenset({2}))


@pytest.mark.parametrize(
    "header",
    [
        {"message": {"kind": "verdict", "stop": [0]}, "arrays": []},
        {"message": {"kind": "step", "steps": {"0": 1}, "more": 2}, "arrays": []},
        {"message": {"kind": "step", "steps": {"first": 1}}, "arrays": []},
        {"message": {"kind": "step", "steps": {"0": 1}}, "arrays": [["a", "object", [1]]]},
        {"message": {"kind": "step", "steps": {"0": 1}}, "arrays": [["a", "float32", [-1]]]},
        {"message": {"kind": "step", "steps": {"0": 1}}, "arrays": [["a", "float32", [1 << 40]]]},
    ],
)
def test_an_invalid_message_is_refused(ends: tuple[Channel, socket.socket], header: dict) -> None:
    leader, theirs = ends
    text = json.dumps(header).encode()
    theirs.sendall(struct.pack("!I", len(text)) + text)
    with pytest.raises(ValueError, match=r"array|validation error"):
        leader.receive()


def test_a_header_of_2_gib_is_refused(ends: tuple[Channel, socket.socket]) -> None:
    leader, theirs = ends
    theirs.sendall(struct.pack("!I", 1 << 31))
    with pytest.raises(ValueError, match="header of 2147483648 bytes"):
        leader.receive()


def test_a_closed_connection_raises_eof_error(ends: tuple[Channel, socket.socket]) -> None:
    leader, theirs = ends
    theirs.sendall(b"\0\0")
    theirs.close()
    assert leader.waiting()
    with pytest.raises(EOFError):
        leader.receive()


def test_split_separates_the_arrays_of_a_batch() -> None:
    batch = [{"embeds": np.zeros(1), "a.b": np.ones(2)}, {}, {"embeds": np.full(3, 2.0)}]
    apart = split(join(batch), 3)
    assert [{name: array.tolist() for name, array in arrays.items()} for arrays in apart] == [
        {"embeds": [0.0], "a.b": [1.0, 1.0]},
        {},
        {"embeds": [2.0, 2.0, 2.0]},
    ]


@pytest.mark.parametrize("name", ["3.embeds", "embeds", "-1.embeds", ".embeds"])
def test_an_array_that_belongs_to_no_request_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"^an array named .* in a batch of 3$"):
        split({name: np.zeros(1)}, 3)
