"""Stages ``text_encoder``, ``text_encoder_2`` and ``image_encoder`` in the python flavour: an
exported graph on ONNX Runtime, or a torch model in worker processes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime

from pipeline.ensemble.stages import ENCODERS
from pipeline.families.parts import PARTS
from pipeline.ranks.group import RankGroup
from pipeline.ranks.messages import RankPart
from pipeline.sessions.onnx_session import open_session
from pipeline.settings import StageSettings
from pipeline.stages.kept_results import Encoder


def open_text_encoder(name: str, folder: Path, settings: StageSettings) -> Encoder:
    """Open the encoder of the stage ``name``, whose version folder is ``folder``.

    It encodes token ids, int64 (B, L), to ``PROMPT_EMBEDS`` float32 (B, L, D) or ``POOLED_EMBEDS``
    float32 (B, P), or pixels to ``IMAGE_EMBEDS``. Texts are not padded: masked positions would be
    zeroed afterwards anyway.

    Raises ``CheckpointError`` for a missing graph, ``RankError`` with the error of a rank that
    fails to start.
    """
    if settings.in_torch(PARTS[name]):
        return OnRanks(name, settings)
    return Exported(folder, settings.threads)


class Exported:
    """Runs one exported graph."""

    def __init__(self, folder: Path, threads: int):
        self._session: onnxruntime.InferenceSession = open_session(folder / "model.onnx", threads)
        self.inputs = [given.name for given in self._session.get_inputs()]
        self._outputs = [made.name for made in self._session.get_outputs()]

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {
            name: np.asarray(made)
            for name, made in zip(
                self._outputs, self._session.run(self._outputs, dict(feeds)), strict=True
            )
        }

    def close(self) -> None:
        """Do nothing: a session needs no cleanup."""


class OnRanks:
    """Leads the ranks that hold the encoder, and uses no device itself."""

    def __init__(self, name: str, settings: StageSettings):
        self.inputs = tuple(tensor.name for tensor in ENCODERS[name].inputs)
        part: RankPart = name  # pyright: ignore[reportAssignmentType] - validated by the message
        self.ranks = RankGroup(settings, part=part)

    def run(self, feeds: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        return self.ranks.encode(dict(feeds))

    def close(self) -> None:
        self.ranks.close()
