"""How a rank gets its device and meets the others."""

from __future__ import annotations

import torch
import torch.distributed as dist

from pipeline.ranks.messages import Setup


def device_of(rank: int) -> torch.device:
    """A GPU of its own, or the CPU where there is none."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    torch.cuda.set_device(rank)
    return torch.device("cuda", rank)


def meet(setup: Setup, ranks: int, device: torch.device) -> None:
    """Returns when all ``ranks`` have met; NCCL between GPUs, gloo between CPUs."""
    store = dist.FileStore(setup.store, ranks)
    backend = "gloo" if device.type == "cpu" else "nccl"
    dist.init_process_group(backend, store=store, rank=setup.rank, world_size=ranks)
