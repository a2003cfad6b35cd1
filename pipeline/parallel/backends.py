"""The attention kernels of a rank: what each of them needs, and which one is used.

Does not import torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from pipeline.errors import InputError

Kernel = Literal["native", "cudnn", "flash", "flash3", "sage"]
AttentionBackend = Literal["auto", Kernel]
FIELD = "attention_backend"
CUDNN_FIRST = (9, 10)
"""Major compute capabilities of GPUs on which cuDNN is the fastest exact kernel of PyTorch."""


@dataclass(frozen=True)
class Target:
    """What attention computes on and with: the device, the data type, and the size of a head.

    ``capability`` is the compute capability of a GPU. It and ``packages`` are None where they are
    unknown; what depends on them is then not checked.
    """

    gpu: bool
    half: bool
    head: int
    capability: tuple[int, int] | None = None
    packages: frozenset[str] | None = None


@dataclass(frozen=True)
class _Needs:
    """``majors`` are the compute capabilities that a kernel is built for; None: 8.0 and newer."""

    head: int
    majors: tuple[int, ...] | None = None
    package: str | None = None


_NEEDS: dict[Kernel, _Needs] = {
    "cudnn": _Needs(head=128),
    "flash": _Needs(head=256),
    "flash3": _Needs(head=256, majors=(9,), package="flash_attn_3"),
    "sage": _Needs(head=128, package="sageattention"),
}


def head_of(config: Mapping[str, Any]) -> int:
    """Return the size of a head of the transformer with this ``config.json``."""
    return config.get("attention_head_dim", 128)


def choose_kernel(backend: AttentionBackend, target: Target) -> Kernel:
    """Return the kernel for ``backend`` on ``target``.

    ``auto`` is cuDNN on GPUs of data centres since Hopper, otherwise PyTorch's own choice. Raises
    ``InputError`` with the reason, and with the values that are available instead.
    """
    if backend == "auto":
        major = target.capability[0] if target.capability else None
        return "cudnn" if major in CUDNN_FIRST and not _missing("cudnn", target) else "native"
    if missing := _missing(backend, target):
        able = ["auto", *(kernel for kernel in get_args(Kernel) if not _missing(kernel, target))]
        raise InputError(
            FIELD, f"{backend} needs {missing}; available: {', '.join(able[:-1])} or {able[-1]}"
        )
    return backend


def _missing(kernel: Kernel, target: Target) -> str | None:
    """Return what ``kernel`` needs and ``target`` does not have, in words."""
    needs = _NEEDS.get(kernel)
    if needs is None:
        return None
    if not target.gpu:
        return "an NVIDIA GPU"
    if not target.half:
        return "--precision bf16"
    if target.head > needs.head or target.head % 8:
        return (
            f"heads of a multiple of 8, at most {needs.head}, and this model has heads of "
            f"{target.head}"
        )
    if target.capability and not _able(needs, target.capability):
        versions = " or ".join(f"{major}.x" for major in needs.majors or ()) or "8.0 or newer"
        found = ".".join(map(str, target.capability))
        return f"a GPU of compute capability {versions}, and this one has {found}"
    if target.packages is not None and needs.package and needs.package not in target.packages:
        return f"the Python package {needs.package}"
    return None


def _able(needs: _Needs, capability: tuple[int, int]) -> bool:
    return capability >= (8, 0) if needs.majors is None else capability[0] in needs.majors
