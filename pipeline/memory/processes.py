"""Memory of the processes themselves, in bytes: code, libraries and contexts, without any model.

Those of the host were measured as the PSS of the processes of `generate` (`bench/memory.py`); those
of GPUs are estimates, as no GPU was at hand.
"""

from __future__ import annotations

MIB = 1 << 20
SERVER = 125 * MIB
"""tritonserver and the command itself."""
STUB = 35 * MIB
"""The stub of a model that runs no graph, such as the tokenizer and those of worker processes."""
GRAPH_STUB = 55 * MIB
"""The stub of an exported graph, with its engine's libraries."""
TORCH = 345 * MIB
"""A process with torch and diffusers, on a CPU."""
TORCH_CUDA = 1000 * MIB
"""Estimated: a process with torch and the libraries of CUDA."""
CUDA_CONTEXT = 500 * MIB
"""Estimated: a context and the kernels that are loaded into it."""
NCCL = 300 * MIB
"""Estimated: the buffers of the communicators of a rank."""


def triton(graphs: int, workers: int) -> int:
    """Return the memory of tritonserver and its stubs: of exported graphs, of stages with worker
    processes, of the tokenizer and of the control model.
    """
    return SERVER + graphs * GRAPH_STUB + (workers + 2) * STUB


def torch_on_host(*, on_gpu: bool) -> int:
    """Return the host memory of a process that runs torch."""
    return TORCH_CUDA if on_gpu else TORCH


def on_gpu(ranks: int) -> int:
    """Return the GPU memory of one of ``ranks`` processes that run torch."""
    return CUDA_CONTEXT + (NCCL if ranks > 1 else 0)
