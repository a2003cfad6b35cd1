"""What is there: torch, the GPU, and what decides whether Triton can run."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from bench.gpu.results import report
from bench.gpu.sizes import Sizes

SHARED_MEMORY = "/dev/shm"  # noqa: S108 - where Triton keeps tensors


def run(work: Path, sizes: Sizes) -> None:  # noqa: ARG001 - every section's signature
    """Report versions, the GPU's free memory, libpython and ``/dev/shm``."""
    import torch

    from pipeline.memory import capacity

    report("torch", torch.__version__, note=f"cudnn {torch.backends.cudnn.version()}")
    if torch.cuda.is_available():
        from torch.cuda.nccl import version as nccl_version

        free = torch.cuda.mem_get_info()[0] / 1e9
        nccl = ".".join(map(str, nccl_version()))
        report("gpu", torch.cuda.get_device_name(), note=f"{free:.1f} GB free; nccl {nccl}")
    libraries = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, check=False)
    found = [line.split()[0] for line in libraries.stdout.splitlines() if "libpython3" in line]
    report("libpython", ", ".join(found) or "none", note="Triton's python stub links it")
    shared = os.statvfs(SHARED_MEMORY)
    report(SHARED_MEMORY, shared.f_frsize * shared.f_bavail / 1e9, "GB")
    report("NVML: bytes free on each GPU", str(capacity.gpus_free(os.environ)))
