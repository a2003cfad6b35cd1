"""A checkpoint as a server with the options of a command serves it."""

from __future__ import annotations

from cli.params.stage_group import StageGroup
from cli.run.loras import with_loras
from pipeline.checkpoint.folder import Checkpoint


def as_served(checkpoint: Checkpoint, stages: StageGroup) -> Checkpoint:
    """Return ``checkpoint`` with the LoRAs of ``stages``, and with the VAE's encoder if they ask
    for it. Raises ``InputError``, and ``CheckpointError`` for a file that is no LoRA of it.
    """
    return with_loras(with_encoder(checkpoint, stages), stages)


def with_encoder(checkpoint: Checkpoint, stages: StageGroup) -> Checkpoint:
    """Return ``checkpoint`` with the VAE's encoder if ``stages`` ask for it.

    Raises ``InputError`` for a model that has no use for it.
    """
    load = stages.vae_config is not None and stages.vae_config.load_encoder
    return checkpoint.with_vae_encoder() if load else checkpoint
