"""Stage ``text_encoder`` in the python flavour: the exported encoder on ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime

from pipeline.onnx_session import open_session


class TextEncoderStage:
    """Token ids to embeddings; texts are not padded, as masked positions would be zeroed afterwards anyway."""

    def __init__(self, folder: Path, threads: int):
        self._session: onnxruntime.InferenceSession = open_session(folder / "model.onnx", threads)

    def run(self, input_ids: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
        """int64 (B, L) ids and mask to float32 (B, L, D)."""
        feeds = {"INPUT_IDS": input_ids, "ATTENTION_MASK": attention_mask}
        return np.asarray(self._session.run(["PROMPT_EMBEDS"], feeds)[0])
