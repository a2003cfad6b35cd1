"""The kernel of attention that is chosen, on devices that this machine need not have."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.errors import InputError
from pipeline.parallel.backends import AttentionBackend, Kernel, Target, choose_kernel, head_of

PACKAGES = frozenset({"flash_attn_3", "sageattention"})
CPU = Target(gpu=False, half=False, head=128, packages=frozenset())
H100 = Target(gpu=True, half=True, head=128, capability=(9, 0), packages=PACKAGES)
B200, A100 = replace(H100, capability=(10, 0)), replace(H100, capability=(8, 0))
RTX_5090, T4 = replace(H100, capability=(12, 0)), replace(H100, capability=(7, 5))
UNKNOWN = Target(gpu=True, half=True, head=128)
"""A GPU of which only the existence is known, as on the command line."""


@pytest.mark.parametrize(
    ("target", "kernel"),
    [
        (H100, "cudnn"),
        (B200, "cudnn"),
        (replace(H100, half=False), "native"),
        (replace(H100, head=12), "native"),
        (replace(H100, head=256), "native"),
        (A100, "native"),
        (RTX_5090, "native"),
        (T4, "native"),
        (UNKNOWN, "native"),
        (CPU, "native"),
    ],
)
def test_auto_takes_cudnn_where_it_is_fastest(target: Target, kernel: Kernel) -> None:
    assert choose_kernel("auto", target) == kernel


@pytest.mark.parametrize("backend", ["native", "cudnn", "flash", "flash3", "sage"])
@pytest.mark.parametrize("target", [H100, UNKNOWN])
def test_hopper_has_every_kernel(backend: AttentionBackend, target: Target) -> None:
    assert choose_kernel(backend, target) == backend


@pytest.mark.parametrize(
    ("backend", "target", "message"),
    [
        ("cudnn", CPU, "cudnn needs an NVIDIA GPU; available: auto or native"),
        ("flash", replace(H100, half=False), "flash needs --precision bf16; available: auto or "),
        ("sage", replace(H100, head=256), "multiple of 8, at most 128, and this model has heads "
         "of 256; available: auto, native, flash or flash3"),
        ("cudnn", replace(H100, head=12), "heads of a multiple of 8"),
        ("flash3", A100, "flash3 needs a GPU of compute capability 9.x, and this one has 8.0; "
         "available: auto, native, cudnn, flash or sage"),
        ("flash3", B200, "this one has 10.0"),
        ("flash", T4, "compute capability 8.0 or newer, and this one has 7.5; available: auto or "
         "native"),
        ("sage", replace(H100, packages=frozenset()), "sage needs the Python package sageattention"
         "; available: auto, native, cudnn or flash"),
        ("flash3", replace(H100, packages=frozenset()), "the Python package flash_attn_3"),
    ],
)  # fmt: skip
def test_refusal_has_the_reason_and_what_is_available(
    backend: AttentionBackend, target: Target, message: str
) -> None:
    with pytest.raises(InputError) as refused:
        choose_kernel(backend, target)
    assert str(refused.value).startswith(f"attention_backend: {backend} needs ")
    assert message in str(refused.value)


def test_size_of_a_head_has_the_default_of_diffusers() -> None:
    assert head_of({"attention_head_dim": 12}) == 12
    assert head_of({}) == 128
