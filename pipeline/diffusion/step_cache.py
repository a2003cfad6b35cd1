"""Reuse what the transformer's blocks added to their input in an earlier step (MagCache).

`pipeline.families.step_cache` decides which steps do so before the first one. This module only
carries the residuals, one for each sample and branch of guidance; with a sharded sequence each rank
carries that of its tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from pipeline.diffusion.denoising import Sample

BLOCKS = ("blocks", "transformer_blocks", "single_transformer_blocks")
"""The attributes of diffusers' transformers that hold their blocks, in the order of the pass."""


class BlockStack:
    """The blocks of one transformer as a whole: what they add to their input, or that from before.

    It puts a module without weights before the first block and another one after the last. The
    first takes over the hooks that run before the first block, which split the sequence over ranks:
    they also run in a step without blocks. Make it after those hooks are set.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        names = [name for name in BLOCKS if hasattr(model, name)]
        blocks = [list(getattr(model, name)) for name in names]
        self._entry, self._exit = _Entry(self), _Exit(self)
        first = blocks[0][0]
        self._entry._forward_pre_hooks.update(first._forward_pre_hooks)
        first._forward_pre_hooks.clear()
        blocks[0].insert(0, self._entry)
        blocks[-1].append(self._exit)
        self._computed = {
            name: torch.nn.ModuleList(part) for name, part in zip(names, blocks, strict=True)
        }
        self._reused = {name: torch.nn.ModuleList() for name in names}
        self._reused[names[0]].extend((self._entry, self._exit))
        self._put(self._computed)
        self._records = False
        self._input: torch.Tensor | None = None
        self._residual: torch.Tensor | None = None

    @contextmanager
    def recording(self) -> Iterator[list[torch.Tensor]]:
        """Run all blocks; the list then has the residual (B, tokens of this rank, width)."""
        recorded: list[torch.Tensor] = []
        self._records = True
        try:
            yield recorded
            assert self._residual is not None
            recorded.append(self._residual)
        finally:
            self._records, self._input, self._residual = False, None, None

    @contextmanager
    def reusing(self, residual: torch.Tensor) -> Iterator[None]:
        """Run no block: add ``residual`` to their input instead."""
        self._residual = residual
        self._put(self._reused)
        try:
            yield
        finally:
            self._put(self._computed)
            self._residual = None

    def enter(self, hidden_states: torch.Tensor) -> None:
        """Note the input of the first block."""
        if self._records:
            self._input = hidden_states

    def leave(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Return the output of the last block, or of the step that is reused."""
        if self._input is not None:
            self._residual = hidden_states - self._input
            self._input = None
        elif self._residual is not None:
            return hidden_states + self._residual
        return hidden_states

    def _put(self, lists: dict[str, torch.nn.ModuleList]) -> None:
        for name, blocks in lists.items():
            setattr(self._model, name, blocks)


class _Entry(torch.nn.Module):
    """Stands before the first block, and takes what a block takes."""

    def __init__(self, stack: BlockStack) -> None:
        super().__init__()
        self._stack = stack

    def forward(self, hidden_states: torch.Tensor, text: torch.Tensor, *rest: Any) -> Any:
        self._stack.enter(hidden_states)
        return self._as_a_block(hidden_states, text, rest)

    @staticmethod
    def _as_a_block(hidden_states: torch.Tensor, text: torch.Tensor, rest: Any) -> Any:
        # Blocks of joint attention return the text too; they also take a mask and more.
        return (hidden_states, text) if len(rest) > 2 else hidden_states


class _Exit(_Entry):
    """Stands after the last block."""

    def forward(self, hidden_states: torch.Tensor, text: torch.Tensor, *rest: Any) -> Any:
        return self._as_a_block(self._stack.leave(hidden_states), text, rest)


class CachedPass:
    """A transformer during one step of ``samples``, which all compute it or all reuse a residual.

    Guidance calls it for both branches at once or for one after the other. The rows of a call are
    those of all samples, for one branch after the other. Each sample has a residual for each
    branch, so that a later step may call it in the other way.
    """

    def __init__(self, model: Any, stack: BlockStack, samples: Sequence[Sample]) -> None:
        self._model, self._stack, self._samples = model, stack, samples
        self._reuses = samples[0].reuses
        self._records = not self._reuses and any(sample.records for sample in samples)
        self._branch = 0
        if not self._reuses:
            for sample in samples:
                sample.residuals = []

    def __call__(self, hidden_states: torch.Tensor, *args: Any, **conditions: Any) -> Any:
        if self._reuses:
            with self._stack.reusing(self._joined(len(hidden_states) // len(self._samples))):
                return self._model(hidden_states, *args, **conditions)
        if not self._records:
            return self._model(hidden_states, *args, **conditions)
        with self._stack.recording() as recorded:
            velocity = self._model(hidden_states, *args, **conditions)
        self._split(recorded.pop())
        return velocity

    def _joined(self, count: int) -> torch.Tensor:
        """Return the residuals of the next ``count`` branches, in the rows of a call."""
        first, self._branch = self._branch, self._branch + count
        rows = [
            sample.residuals[branch]
            for branch in range(first, first + count)
            for sample in self._samples
        ]
        return rows[0] if len(rows) == 1 else torch.cat(rows)

    def _split(self, residual: torch.Tensor) -> None:
        count = len(self._samples)
        for place, sample in enumerate(self._samples):
            if sample.records:
                own = residual[place::count].split(1)
                # Copies: a view would keep the rows of all samples.
                sample.residuals.extend(own if count == 1 else (row.clone() for row in own))
