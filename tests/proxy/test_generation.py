"""Recognising failures of Triton."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from proxy.generation import OUT_OF_MEMORY

TOO_MUCH = 1 << 46  # elements


def test_out_of_memory_messages_are_recognised() -> None:
    """Messages from this machine without a GPU, as ranks and stages report them."""
    texts = []
    for allocate in (
        lambda: torch.empty(TOO_MUCH),
        lambda: np.empty(TOO_MUCH),
        lambda: bytearray(TOO_MUCH),
    ):
        with pytest.raises((RuntimeError, MemoryError)) as caught:
            allocate()
        texts.append(f"{type(caught.value).__name__}: {caught.value}".splitlines()[0])
    assert "DefaultCPUAllocator: can't allocate memory" in texts[0]
    assert all(map(OUT_OF_MEMORY.search, texts)), texts


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("rank 0: OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", True),
        ("rank 0: OSError: [Errno 12] Cannot allocate memory", True),
        ("Failed to allocate memory for requested buffer of size 1073741824", True),
        ("std::bad_alloc", True),
        ("latents are not finite after step 1 of 3", False),
    ],
)
def test_other_messages_are_not_out_of_memory(text: str, known: bool) -> None:
    assert bool(OUT_OF_MEMORY.search(text)) == known
