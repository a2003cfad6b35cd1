"""Memory of the processes themselves, in bytes: code, libraries and contexts, without any model.

Those of the host were measured as the PSS of the processes of `generate` (`bench/memory.py`); those
of GPUs are estimates, as no GPU was at hand.
"""

from __future__ import annotations

MIB = 1 << 20
TRITON = 100 * MIB
STUB = 60 * MIB
TORCH = 300 * MIB
TORCH_CUDA = 1000 * MIB
"""Estimated: a process with torch and the libraries of CUDA."""
CUDA_CONTEXT = 500 * MIB
"""Estimated: a context and the kernels that are loaded into it."""
NCCL = 300 * MIB
"""Estimated: the buffers of the communicators of a rank."""


def triton(stages: int) -> int:
    """Return the memory of tritonserver and the stubs of ``stages`` stages, the tokenizer and the
    control model.
    """
    return TRITON + (stages + 2) * STUB


def torch_on_host(*, on_gpu: bool) -> int:
    """Return the host memory of a process that runs torch."""
    return TORCH_CUDA if on_gpu else TORCH


def on_gpu(ranks: int) -> int:
    """Return the GPU memory of one of ``ranks`` processes that run torch."""
    return CUDA_CONTEXT + (NCCL if ranks > 1 else 0)
