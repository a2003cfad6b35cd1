"""Stages ``text_encoder`` and ``text_encoder_2`` in the python flavour: an exported encoder on ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime

from pipeline.onnx_session import open_session


class TextEncoderStage:
    """Token ids to embeddings; texts are not padded, as masked positions would be zeroed afterwards anyway.

    ``inputs`` are the names of the graph's: ``INPUT_IDS``, and ``ATTENTION_MASK`` of encoders that take one.
    """

    def __init__(self, folder: Path, threads: int):
        self._session: onnxruntime.InferenceSession = open_session(folder / "model.onnx", threads)
        self.inputs = [given.name for given in self._session.get_inputs()]
        self._outputs = [made.name for made in self._session.get_outputs()]

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """int64 (B, L) each, to ``PROMPT_EMBEDS`` float32 (B, L, D) or ``POOLED_EMBEDS`` float32 (B, P)."""
        return {
            name: np.asarray(made)
            for name, made in zip(self._outputs, self._session.run(self._outputs, dict(feeds)), strict=True)
        }
