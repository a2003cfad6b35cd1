"""The interface of a graph's session, and its choice: TensorRT if there is an engine, otherwise
ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime

from pipeline.sessions.onnx_session import open_session


class Session(Protocol):
    """A session that runs a graph. Outputs may stay on the device, as values that only sessions of
    the same kind can read.

    `inputs` and `outputs` map names to shapes, in which a dynamic dimension is a string.
    """

    inputs: dict[str, list[int | str]]
    outputs: dict[str, list[int | str]]

    def run(self, outputs: Sequence[str], feeds: Mapping[str, Any]) -> Sequence[Any]:
        """Run the graph and return ``outputs`` in order.

        Inputs are numpy arrays or values of an earlier run; each output is an array or has a method
        ``numpy``.
        """
        ...


def open_graph(folder: Path, name: str, threads: int, device: int = 0) -> Session:
    """Open ``<name>.plan`` of `folder` on the GPU with index `device` if the file exists, otherwise
    ``<name>.onnx`` on the CPU.

    Raises CheckpointError if neither exists, or if the plan is for another GPU.
    """
    plan = folder / f"{name}.plan"
    if plan.is_file():
        # Imports torch and TensorRT, so only if there is a plan.
        from pipeline.sessions.tensorrt_session import TensorRtSession

        return TensorRtSession(plan, device=device)
    return OnnxSession(folder / f"{name}.onnx", threads)


class OnnxSession:
    """A graph that runs with ONNX Runtime."""

    def __init__(self, path: Path, threads: int) -> None:
        """Open ``path``; each run uses `threads` cores (0: all). Raises CheckpointError for a
        missing file.
        """
        # An arena never frees memory and cannot reuse it well here, where the caches of one run
        # outlive it: without one the peak is a third lower (at 832x480) in the same time.
        self._session = open_session(path, threads, arena=False)
        self.inputs: dict[str, list[int | str]] = {
            value.name: value.shape for value in self._session.get_inputs()
        }
        self.outputs: dict[str, list[int | str]] = {
            value.name: value.shape for value in self._session.get_outputs()
        }

    def run(self, outputs: Sequence[str], feeds: Mapping[str, Any]) -> list[onnxruntime.OrtValue]:
        # Values stay in ONNX Runtime: caches are gigabytes at 720p, and numpy would copy them.
        values = {name: _value(feed) for name, feed in feeds.items()}
        return list(self._session.run_with_ort_values(list(outputs), values))


def _value(feed: Any) -> onnxruntime.OrtValue:
    return onnxruntime.OrtValue.ortvalue_from_numpy(feed) if isinstance(feed, np.ndarray) else feed


def to_array(value: Any) -> np.ndarray:
    """Convert an output of any session to float32."""
    array = value if isinstance(value, np.ndarray) else value.numpy()
    return array.astype(np.float32, copy=False)
