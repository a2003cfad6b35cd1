"""The arrangement of ranks: resolves the flags to a layout, or rejects them with the arithmetic in
the error. Does not import torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.errors import InputError

GUIDANCE_BRANCHES = 2
# Up to this many tokens the two branches of guidance run as one batch: small models are limited by
# launching operations, not by arithmetic. Above it a batch of two only doubles the memory for
# activations.
BATCHED_GUIDANCE_TOKENS = 8192
# Up to this many tokens for each thread share a pass on a CPU. Larger passes gain nothing, and lose
# up to a sixth because their activations do not fit the caches (bench/batching.py).
CPU_PASS_TOKENS = 1024
SHARDED_SIZES = (
    "num_heads",
    "num_attention_heads",
    "num_key_value_heads",
    "d_ff",
    "intermediate_size",
)
"""The sizes of a text encoder, as UMT5 and LLaMA name them, that are split over the ranks."""


@dataclass(frozen=True)
class Layout:
    """``ulysses * ring`` ranks share a sequence; each of ``branches`` such groups computes a branch
    of guidance.
    """

    ulysses: int = 1
    ring: int = 1
    branches: int = 1

    @property
    def sequence_ranks(self) -> int:
        return self.ulysses * self.ring

    @property
    def ranks(self) -> int:
        return self.sequence_ranks * self.branches


def resolve_layout(
    num_gpus: int | None = None,
    sp_size: int | None = None,
    ulysses_degree: int | None = None,
    ring_degree: int | None = None,
    cfg_parallel: bool | None = None,
) -> Layout:
    """Return the layout that fits all given values; a value that is ``None`` is derived.

    Ulysses is preferred to Ring, which sends more. The branches of guidance get separate ranks if
    ``cfg_parallel`` is set, or if `num_gpus` is twice the number of ranks of the sequence. Raises
    ``InputError`` for values that contradict each other.
    """
    for field, value in (
        ("ulysses_degree", ulysses_degree),
        ("ring_degree", ring_degree),
        ("sp_size", sp_size),
    ):
        if value is not None and num_gpus is not None and value > num_gpus:
            raise InputError(field, f"{value} is more than num_gpus {num_gpus}")
    sequence = _sequence_ranks(num_gpus, sp_size, ulysses_degree, ring_degree, cfg_parallel)
    ulysses, ring = _degrees(sequence, ulysses_degree, ring_degree)
    layout = Layout(ulysses, ring, _branches(num_gpus, sequence, cfg_parallel))
    if num_gpus is not None and layout.ranks != num_gpus:
        raise InputError(
            "num_gpus",
            f"{num_gpus} is not sp_size {sequence} x {layout.branches} "
            f"({'a branch of guidance each' if layout.branches > 1 else 'no cfg_parallel'}) = "
            f"{layout.ranks}",
        )
    return layout


def _sequence_ranks(
    num_gpus: int | None,
    sp_size: int | None,
    ulysses: int | None,
    ring: int | None,
    cfg_parallel: bool | None,
) -> int:
    if sp_size is not None:
        return sp_size
    if ulysses is not None and ring is not None:
        return ulysses * ring
    if num_gpus is None:
        return ulysses or ring or 1
    if not cfg_parallel:
        return num_gpus
    if num_gpus % GUIDANCE_BRANCHES:
        raise InputError(
            "num_gpus",
            f"{num_gpus} cannot be halved, as cfg_parallel needs for guidance's two branches",
        )
    return num_gpus // GUIDANCE_BRANCHES


def _degrees(sequence: int, ulysses: int | None, ring: int | None) -> tuple[int, int]:
    if ulysses is not None and ring is not None:
        if ulysses * ring != sequence:
            raise InputError(
                "sp_size",
                f"{sequence} is not ulysses_degree {ulysses} x ring_degree {ring} = "
                f"{ulysses * ring}",
            )
        return ulysses, ring
    field, given = ("ulysses_degree", ulysses) if ulysses is not None else ("ring_degree", ring)
    if given is not None and sequence % given:
        raise InputError(
            field, f"{given} does not divide sp_size {sequence}; {_divisors(sequence)} do"
        )
    if ulysses is None and ring is not None:
        return sequence // ring, ring
    ulysses = ulysses or sequence
    return ulysses, sequence // ulysses


def _branches(num_gpus: int | None, sequence: int, cfg_parallel: bool | None) -> int:
    left_over = num_gpus is not None and num_gpus == sequence * GUIDANCE_BRANCHES
    return GUIDANCE_BRANCHES if cfg_parallel or (cfg_parallel is None and left_over) else 1


def _divisors(number: int) -> str:
    return ", ".join(str(n) for n in range(1, number + 1) if number % n == 0)


def check_text_ranks(config: Mapping[str, Any], ranks: int) -> None:
    """Check that ``ranks`` divides the heads and columns of a text encoder with this
    ``config.json``.

    Raises ``InputError`` if it does not.
    """
    sizes = {name: config[name] for name in SHARDED_SIZES if isinstance(config.get(name), int)}
    if uneven := [f"{name} {size}" for name, size in sizes.items() if size % ranks]:
        able = [
            count
            for count in range(1, min(sizes.values()) + 1)
            if not any(s % count for s in sizes.values())
        ]
        raise InputError(
            "tp_size", f"{ranks} does not divide the text encoder's {uneven[0]}; {_words(able)}"
        )


def _words(counts: list[int]) -> str:
    *others, last = map(str, counts)
    return f"{', '.join(others)} or {last} do" if others else f"only {last} does"
