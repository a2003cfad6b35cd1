"""Classifier-free guidance: computes the velocity for the scheduler, with one transformer or two
experts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from pipeline.diffusion.denoising import Conditions, Sample
from pipeline.diffusion.step_cache import BlockStack, CachedPass
from pipeline.parallel.mesh import Axis


class Transformer(Protocol):
    """Predicts the velocity of the probability flow, as the transformers of diffusers do."""

    def __call__(
        self,
        hidden_states: torch.Tensor,
        timestep: torch.Tensor,
        *,
        return_dict: bool,
        **conditions: torch.Tensor,
    ) -> tuple[torch.Tensor]: ...


class Guide(Protocol):
    """Computes the two branches of guidance: ``batched``, ``sequential``, ``batched_up_to`` or
    ``on_separate_ranks``.
    """

    def __call__(
        self,
        model: Transformer,
        hidden_states: torch.Tensor,
        timestep: torch.Tensor,
        branches: tuple[Conditions, Conditions],
    ) -> tuple[torch.Tensor, torch.Tensor]: ...


@dataclass(frozen=True)
class Experts:
    """One transformer; or two, of which the second is used below the timestep ``boundary`` (Wan 2.2
    A14B).

    ``stacks`` are the blocks of each; they may be left out where no sample reuses steps.
    """

    models: Sequence[Transformer]
    boundary: float = 0.0
    stacks: Sequence[BlockStack] = ()

    def index(self, timestep: torch.Tensor) -> int:
        """Return the index of the model for ``timestep``; it never falls along a schedule."""
        # The comparison waits for the GPU, which a single model need not.
        return int(bool(timestep < self.boundary)) if len(self.models) > 1 else 0


class Predictor:
    """Predicts the guided velocity, v = v_neg + w (v_pos - v_neg): Ho and Salimans, 2022, eq. 6
    with w as in Imagen.
    """

    def __init__(
        self, experts: Experts, guide: Guide, dtype: torch.dtype, largest: int | None = None
    ) -> None:
        """``dtype`` is that of the transformers and the conditions. ``largest`` is the maximum
        number of samples in one pass, both branches of guidance counted; None: all of a batch.
        """
        self._experts, self._guide, self._dtype = experts, guide, dtype
        self._largest = largest

    def __call__(self, samples: Sequence[Sample]) -> Sequence[torch.Tensor]:
        """Return the velocity at each sample, in the shape of its latents, which is the same for
        all.

        Samples form one batch if they need the same expert, are either all guided or all unguided,
        and either all compute their step or all reuse an earlier one.
        """
        batches: dict[tuple[int, bool, bool], list[int]] = {}
        for place, sample in enumerate(samples):
            guided = sample.negative is not None
            kind = (self._experts.index(sample.timestep), guided, sample.reuses)
            batches.setdefault(kind, []).append(place)
        velocities: dict[int, torch.Tensor] = {}
        for (index, guided, _), together in batches.items():
            for places in self._passes(together, guided=guided):
                made = self._batch(index, [samples[place] for place in places])
                velocities.update(zip(places, made.split(1), strict=True))
        return [velocities[place] for place in range(len(samples))]

    def _passes(self, places: list[int], *, guided: bool) -> list[list[int]]:
        """Return the places of each pass: passes of nearly the same size."""
        if self._largest is None:
            return [places]
        largest = max(1, self._largest // (1 + guided))
        count = -(-len(places) // largest)
        return [places[number::count] for number in range(count)]

    def _batch(self, index: int, samples: Sequence[Sample]) -> torch.Tensor:
        entered = [sample.conditioning.enter(sample.latents, sample.timestep) for sample in samples]
        hidden_states = torch.cat([hidden for hidden, _ in entered]).to(self._dtype)
        timestep = stack_timesteps([timestep for _, timestep in entered])
        model, positive = (
            self._model(index, samples),
            stack([sample.positive for sample in samples]),
        )
        negatives = [sample.negative for sample in samples if sample.negative is not None]
        if not negatives:
            return model(hidden_states, timestep, return_dict=False, **positive)[0]
        scales = torch.tensor(
            [sample.guidance_scales[index] for sample in samples], device=hidden_states.device
        )
        above, below = self._guide(model, hidden_states, timestep, (positive, stack(negatives)))
        return below + scales.view(-1, 1, 1, 1, 1) * (above - below)

    def _model(self, index: int, samples: Sequence[Sample]) -> Transformer:
        model = self._experts.models[index]
        if any(sample.reused_steps or sample.observed for sample in samples):
            return CachedPass(model, self._experts.stacks[index], samples)
        return model


def stack(conditions: Sequence[Conditions]) -> Conditions:
    """Combine all rows into one batch.

    Texts may differ in length only if they have a mask: text and mask are then padded with zeros.
    """
    if len(conditions) == 1:
        return conditions[0]
    return {name: _rows([each[name] for each in conditions]) for name in conditions[0]}


def stack_timesteps(timesteps: Sequence[torch.Tensor]) -> torch.Tensor:
    """Combine timesteps, each (1,) or one per token (1, N), into (B,), or (B, N) if any has N."""
    tokens = {each.shape[1] for each in timesteps if each.ndim == 2}
    if not tokens:
        return torch.cat(list(timesteps))
    return torch.cat([each.view(1, -1).expand(1, *tokens) for each in timesteps])


def _rows(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    if len({tensor.shape[1:] for tensor in tensors}) == 1:
        return torch.cat(list(tensors))
    longest = max(tensor.shape[1] for tensor in tensors)
    padding = [(0, 0) * (tensor.ndim - 2) + (0, longest - tensor.shape[1]) for tensor in tensors]
    return torch.cat(
        [torch.nn.functional.pad(tensor, pad) for tensor, pad in zip(tensors, padding, strict=True)]
    )


def batched(
    model: Transformer,
    hidden_states: torch.Tensor,
    timestep: torch.Tensor,
    branches: tuple[Conditions, Conditions],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run both branches as one batch."""
    hidden_states, timestep = (
        torch.cat((hidden_states, hidden_states)),
        torch.cat((timestep, timestep)),
    )
    positive, negative = model(hidden_states, timestep, return_dict=False, **stack(branches))[
        0
    ].chunk(2)
    return positive, negative


def sequential(
    model: Transformer,
    hidden_states: torch.Tensor,
    timestep: torch.Tensor,
    branches: tuple[Conditions, Conditions],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run the branches sequentially."""
    positive, negative = (
        model(hidden_states, timestep, return_dict=False, **branch)[0] for branch in branches
    )
    return positive, negative


def tokens_of(shape: Sequence[int], patch_size: int) -> int:
    """Return the number of tokens of all samples in latents of ``shape`` (B, C, T, H, W)."""
    count, _, frames, height, width = shape
    return count * frames * (height // patch_size) * (width // patch_size)


def batched_up_to(tokens: int, patch_size: int) -> Guide:
    """Return a guide that runs both branches as one batch if each has at most ``tokens`` tokens in
    all samples together, and sequentially otherwise.
    """

    def guide(
        model: Transformer,
        hidden_states: torch.Tensor,
        timestep: torch.Tensor,
        branches: tuple[Conditions, Conditions],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        branch = batched if tokens_of(hidden_states.shape, patch_size) <= tokens else sequential
        return branch(model, hidden_states, timestep, branches)

    return guide


def on_separate_ranks(axis: Axis) -> Guide:
    """Return a guide that runs each branch on separate ranks, which then exchange the results (CFG
    parallelism).
    """

    def guide(
        model: Transformer,
        hidden_states: torch.Tensor,
        timestep: torch.Tensor,
        branches: tuple[Conditions, Conditions],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        own = model(hidden_states, timestep, return_dict=False, **branches[axis.index])[0]
        positive, negative = axis.all_gather(own)
        return positive, negative

    return guide
