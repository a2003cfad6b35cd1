"""The device of a rank, and its rendezvous with the other ranks."""

from __future__ import annotations

import os
from datetime import timedelta

import torch
import torch.distributed as dist

from pipeline.errors import ServerError
from pipeline.memory.capacity import gpus_free
from pipeline.ranks.messages import Setup
from pipeline.system.nvidia_driver import find_driver, unusable


def device_of(rank: int) -> torch.device:
    """Return the GPU with the index ``rank``, or the CPU on a machine without GPUs.

    Raises ``ServerError`` where torch is built for CUDA and a visible GPU cannot be used: on the
    CPU a video would take hours.
    """
    if not torch.cuda.is_available():
        if torch.version.cuda and gpus_free(os.environ):
            raise ServerError(f"GPU {rank}: {unusable(torch.version.cuda, find_driver())}")
        return torch.device("cpu")
    torch.cuda.set_device(rank)
    return torch.device("cuda", rank)


def init_process_group(setup: Setup, device: torch.device) -> dist.Store:
    """Wait for all ranks of the group and connect them: NCCL between GPUs, gloo between CPUs.

    Returns the store of the group, in which a rank may wait for a key of another while it loads.
    """
    store = dist.FileStore(setup.store, setup.ranks)
    backend = "gloo" if device.type == "cpu" else "nccl"
    dist.init_process_group(backend, store=store, rank=setup.rank, world_size=setup.ranks)
    store.set_timeout(timedelta(seconds=setup.settings.startup_timeout_s))
    return store
