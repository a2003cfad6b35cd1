"""Latents to frames on ONNX Runtime, chunk by chunk, in memory that does not grow with the length of the clip."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime as ort

from pipeline.onnx_session import open_session


class ChunkedDecoder:
    """The pair of decoder graphs that `export.components.wan_vae_decoder` makes. Safe to use from several threads.

    `channels` is the number of latent channels; `frames_per_latent` that of the frames each latent frame but the first
    one becomes.
    """

    def __init__(self, folder: Path, threads: int) -> None:
        """Loads ``first.onnx`` and ``next.onnx`` of `folder`; each run uses `threads` cores (0: all).

        Raises CheckpointError where one of the two is missing.
        """
        # An arena never gives memory back and cannot reuse it well here, where the caches of one run outlive it:
        # without one the peak is a third lower (at 832x480) in the same time.
        self._first = open_session(folder / "first.onnx", threads, arena=False)
        self._next = open_session(folder / "next.onnx", threads, arena=False)
        self._outputs = [output.name for output in self._next.get_outputs()]
        self._caches = [value.name for value in self._next.get_inputs()][1:]
        self.channels: int = self._next.get_inputs()[0].shape[1]
        self.frames_per_latent: int = self._next.get_outputs()[0].shape[0]

    def decode(self, latents: np.ndarray) -> Iterator[np.ndarray]:
        """Normalised latents, float32 [1, C, T, h, w], to frames in [0, 1]: float32 [t, H, W, 3], a chunk per T.

        The first chunk is one frame, the others are `frames_per_latent`. Raises ValueError for another shape or type.
        """
        if latents.ndim != 5 or latents.shape[:2] != (1, self.channels) or 0 in latents.shape:
            raise ValueError(f"latents must be [1, {self.channels}, T, h, w], not {list(latents.shape)}")
        if latents.dtype != np.float32:
            raise ValueError(f"latents must be float32, not {latents.dtype}")
        return self._chunks(latents)

    def _chunks(self, latents: np.ndarray) -> Iterator[np.ndarray]:
        caches: list[ort.OrtValue] = []
        for index in range(latents.shape[2]):
            latent = np.ascontiguousarray(latents[:, :, index : index + 1])
            frames, caches = self._run(self._next if index else self._first, latent, caches)
            yield frames

    def _run(
        self, session: ort.InferenceSession, latent: np.ndarray, caches: list[ort.OrtValue]
    ) -> tuple[np.ndarray, list[ort.OrtValue]]:
        # A binding of its own for each run: it is what keeps the old caches alive, and they are gigabytes at 720p.
        binding = session.io_binding()
        binding.bind_cpu_input("latents", latent)
        for name, cache in zip(self._caches, caches, strict=False):
            binding.bind_ortvalue_input(name, cache)
        for name in self._outputs:
            binding.bind_output(name)
        session.run_with_iobinding(binding)
        frames, *new_caches = binding.get_outputs()
        return frames.numpy(), new_caches


def frames_to_uint8(frames: np.ndarray) -> np.ndarray:
    """Frames in [0, 1], any shape, to uint8 0..255: clipped, halves rounded up."""
    scaled = frames * np.float32(255)
    scaled += np.float32(0.5)
    return np.clip(scaled, 0, 255, out=scaled).astype(np.uint8)
