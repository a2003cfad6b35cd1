"""What the hardware gives: matrix products and copies."""

from __future__ import annotations

from pathlib import Path

from bench.gpu.results import report
from bench.gpu.sizes import Sizes


def run(work: Path, sizes: Sizes) -> None:  # noqa: ARG001 - every section's signature
    """Report TFLOP/s of a bf16 product, and bytes per second on and to the device."""
    import torch

    from bench.gpu.measuring import DEVICE, GPU, seconds

    side = 512 if sizes.tiny else 8192
    a, b = (torch.randn(side, side, device=DEVICE, dtype=torch.bfloat16) for _ in range(2))
    report("bf16 matmul", 2 * side**3 / seconds(lambda: a @ b, 5) / 1e12, "TFLOP/s")
    count = (1 << 20) if sizes.tiny else (1 << 31)
    x = torch.empty(count, dtype=torch.uint8, device=DEVICE)
    y = torch.empty_like(x)
    report("device copy", 2 * count / seconds(lambda: y.copy_(x), 5) / 1e12, "TB/s")
    host = torch.empty_like(x, device="cpu")
    report("host to device, pageable", count / seconds(lambda: x.copy_(host), 2) / 1e9, "GB/s")
    if GPU:
        pinned = host.pin_memory()
        taken = seconds(lambda: x.copy_(pinned, non_blocking=True), 3)
        report("host to device, pinned", count / taken / 1e9, "GB/s")
