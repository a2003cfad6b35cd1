"""Attention: ours beside float64, then every kernel at the sizes of Wan and HunyuanVideo."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, get_args

from bench.gpu.results import report
from bench.gpu.sizes import Sizes

# Name, tokens, heads of one rank, whether a mask is given.
CASES = (
    ("Wan 1.3B 24f", 9360, 12, False),
    ("Wan 1.3B 81f", 32760, 12, False),
    ("A14B 720p, a quarter of the heads", 75600, 10, False),
    ("HunyuanVideo 720p45, a quarter of the heads", 43456, 6, True),
)
HEAD_DIM = 128


def run(work: Path, sizes: Sizes) -> None:  # noqa: ARG001 - every section's signature
    """Report errors of `attend_block`, and on a GPU the TFLOP/s of each kernel."""
    import torch

    from bench.gpu.measuring import GPU, first_line, reset_peak

    _exactness()
    if not GPU:
        return
    for name, tokens, heads, masked in CASES:
        _kernels(name, tokens, heads, masked)
        reset_peak()
    try:
        torch.nn.attention.activate_flash_attention_impl("FA3")
        report("FA3 in torch", "there")
    except (AttributeError, RuntimeError, ValueError, ImportError) as error:
        report("FA3 in torch", "no", note=first_line(error))


def _exactness() -> None:
    """`attend_block` (what Ring merges) beside a softmax in float64."""
    import torch

    from bench.gpu.measuring import DEVICE, first_line
    from pipeline.parallel.attention import attend_block

    torch.manual_seed(0)
    q, k, v = (torch.randn(2, length, 3, 16, dtype=torch.float64) for length in (24, 21, 21))
    padded = torch.ones(2, 21, dtype=torch.bool)
    padded[1, 13:] = False
    for dtype, limit in ((torch.float32, 1e-3), (torch.bfloat16, 0.05)):
        for kind, mask in (("no mask", None), ("mask", padded)):
            name = f"attend_block {dtype} {kind}"
            scores = torch.einsum("bshd,bkhd->bhsk", q, k) / 4
            if mask is not None:
                scores = scores.masked_fill(~mask[:, None, None], float("-inf"))
            expected = torch.einsum("bhsk,bkhd->bhsd", scores.softmax(-1), v)
            query, key, value = (each.to(DEVICE, dtype) for each in (q, k, v))
            valid = None if mask is None else mask.to(DEVICE)
            try:
                part = attend_block(query, key, value, valid)
            except RuntimeError as error:
                report(name, "FAILED", note=first_line(error))
                continue
            out = (part.out.double().cpu() - expected).abs().max().item()
            lse = (part.lse.double().cpu() - scores.logsumexp(-1)).abs().max().item()
            fine = max(out, lse) < limit
            report(name, "ok" if fine else "WRONG", note=f"out {out:.1e}, lse {lse:.1e}")


def _kernels(name: str, tokens: int, heads: int, masked: bool) -> None:
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    from pipeline.parallel.attention import attend, attend_block
    from pipeline.parallel.backends import Kernel

    backends = {
        "default": None,
        "cudnn": SDPBackend.CUDNN_ATTENTION,
        "flash": SDPBackend.FLASH_ATTENTION,
        "efficient": SDPBackend.EFFICIENT_ATTENTION,
    }
    shape = (1, tokens, heads, HEAD_DIM)
    q, k, v = (torch.randn(shape, device="cuda", dtype=torch.bfloat16) for _ in range(3))
    flop = 4 * tokens**2 * heads * HEAD_DIM
    whole = torch.ones(1, tokens, dtype=torch.bool, device="cuda")
    for mask in (None, whole) if masked else (None,):
        for kernel, backend in backends.items():
            chosen = sdpa_kernel([backend]) if backend else nullcontext()
            what = f"sdpa {kernel}: {name}{' with mask' if mask is not None else ''}"
            _speed(what, flop, chosen, lambda mask=mask: attend(q, k, v, mask))
    for kernel in get_args(Kernel):
        _speed(
            f"attend_block (Ring) {kernel}: {name}",
            flop,
            nullcontext(),
            lambda kernel=kernel: attend_block(q, k, v, kernel=kernel),
        )


def _speed(
    name: str, flop: float, kernel: AbstractContextManager[Any], attend: Callable[[], object]
) -> None:
    from bench.gpu.measuring import first_line, seconds

    try:
        with kernel:
            taken = seconds(attend)
    except (RuntimeError, ImportError) as error:
        report(name, "no", note=first_line(error))
    else:
        report(name, flop / taken / 1e12, "TFLOP/s", f"{taken * 1e3:.1f} ms")
