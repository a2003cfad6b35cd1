"""Typed messages over a socket: a JSON header and the raw bytes of arrays. Nothing is unpickled."""

from __future__ import annotations

import json
import math
import select
import socket
import struct
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
from pydantic import BaseModel, TypeAdapter

MAX_HEADER_BYTES = 1 << 20
MAX_ARRAY_BYTES = 8 << 30
_DTYPES = frozenset({"float32", "int64", "uint8", "bool"})
_PREFIX = struct.Struct("!I")
Arrays = dict[str, np.ndarray]
Received = TypeVar("Received", bound=BaseModel)


class Channel(Generic[Received]):
    """One end of a connection. Several threads may send, but only one may receive."""

    def __init__(self, connection: socket.socket, received: TypeAdapter[Received]) -> None:
        """``received`` validates the messages from the other end."""
        self._socket = connection
        self._received = received
        self._lock = threading.Lock()

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, message: BaseModel, arrays: Mapping[str, np.ndarray] | None = None) -> None:
        """Send ``message`` and ``arrays``. Raises ``OSError`` when the other end has closed."""
        contiguous = {name: np.ascontiguousarray(array) for name, array in (arrays or {}).items()}
        described = [[name, array.dtype.name, array.shape] for name, array in contiguous.items()]
        header = json.dumps(
            {"message": message.model_dump(mode="json"), "arrays": described}
        ).encode()
        with self._lock:
            self._socket.sendall(_PREFIX.pack(len(header)) + header)
            for array in contiguous.values():
                self._socket.sendall(array.data.cast("B") if array.size else b"")

    def receive(self) -> tuple[Received, Arrays]:
        """Return the next message and its arrays.

        Raises ``EOFError`` when the other end has closed, ``ValueError`` for an invalid message.
        """
        (length,) = _PREFIX.unpack(self._read(_PREFIX.size))
        if length > MAX_HEADER_BYTES:
            raise ValueError(f"a message header of {length} bytes")
        header = json.loads(self._read(length))
        arrays = {
            name: self._read_array(dtype, tuple(shape)) for name, dtype, shape in header["arrays"]
        }
        return self._received.validate_python(header["message"]), arrays

    def waiting(self) -> bool:
        """Return whether there is something to receive, which may be only the end of the stream."""
        return bool(select.select([self._socket], [], [], 0)[0])

    def close(self) -> None:
        self._socket.close()

    def _read_array(self, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
        if dtype not in _DTYPES or not all(isinstance(size, int) and size >= 0 for size in shape):
            raise ValueError(f"an array of {dtype} {list(shape)}")
        count = math.prod(shape) * np.dtype(dtype).itemsize
        if count > MAX_ARRAY_BYTES:
            raise ValueError(f"an array of {count} bytes")
        return np.frombuffer(self._read(count), dtype=dtype).reshape(shape)

    def _read(self, count: int) -> bytearray:
        buffer = bytearray(count)
        view: Any = memoryview(buffer)
        while view:
            try:
                read = self._socket.recv_into(view)
            except ConnectionError:
                read = 0
            if not read:
                raise EOFError("the other end has closed")
            view = view[read:]
        return buffer


def join(batch: Sequence[Mapping[str, np.ndarray]]) -> Arrays:
    """Combine the arrays of several requests into those of one message, named as in
    `pipeline.ranks.messages.Run`.
    """
    return {
        f"{place}.{name}": array
        for place, arrays in enumerate(batch)
        for name, array in arrays.items()
    }


def split(arrays: Arrays, count: int) -> list[Arrays]:
    """Return the arrays of each of ``count`` requests: the inverse of ``join``.

    Raises ``ValueError`` for a name that belongs to none of them.
    """
    batch: list[Arrays] = [{} for _ in range(count)]
    for joined, array in arrays.items():
        place, _, name = joined.partition(".")
        if not (place.isdecimal() and int(place) < count):
            raise ValueError(f"an array named {joined} in a batch of {count}")
        batch[int(place)][name] = array
    return batch
