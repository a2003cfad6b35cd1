"""Keeps the results of an encoder, so that a text that is used again is encoded once.

A negative prompt, for example, is the same in most requests. Triton's response cache could do this,
but it stores an empty result when the process of a stage ends within a request, and answers the
same text with it until the server ends.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Protocol

import numpy as np

MAX_BYTES = 64 << 20
Arrays = Mapping[str, np.ndarray]


class Encoder(Protocol):
    """Encodes texts or an image. ``inputs`` are the names of the arrays that ``run`` takes."""

    @property
    def inputs(self) -> Sequence[str]: ...

    def run(self, feeds: Arrays) -> Arrays: ...

    def close(self) -> None: ...


class KeptResults:
    """Runs an encoder and keeps its latest results, of up to ``max_bytes`` in total.

    ``count`` is called for each run with whether its result was kept from an earlier one. For one
    thread.
    """

    def __init__(
        self, encoder: Encoder, count: Callable[[bool], None], max_bytes: int = MAX_BYTES
    ) -> None:
        self._encoder, self._count, self._max_bytes = encoder, count, max_bytes
        self._results: OrderedDict[bytes, Arrays] = OrderedDict()
        self._bytes = 0

    @property
    def inputs(self) -> Sequence[str]:
        return self._encoder.inputs

    def run(self, feeds: Arrays) -> Arrays:
        key = _digest(feeds)
        result = self._results.get(key)
        self._count(result is not None)
        if result is None:
            result = self._results[key] = self._encoder.run(feeds)
            self._bytes += _size(result)
        self._results.move_to_end(key)
        while self._bytes > self._max_bytes:
            self._bytes -= _size(self._results.popitem(last=False)[1])
        return result

    def close(self) -> None:
        self._encoder.close()


def _digest(feeds: Arrays) -> bytes:
    digest = blake2b(digest_size=32)
    for name, array in sorted(feeds.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.digest()


def _size(result: Arrays) -> int:
    return sum(array.nbytes for array in result.values())
