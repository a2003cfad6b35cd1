"""What runs a graph: ONNX Runtime here, TensorRT where the engines are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime

from pipeline.sessions.onnx_session import open_session


class Session(Protocol):
    """A graph. What it gives may stay where it was made, as a value that only sessions of its kind
    can read.

    `inputs` and `outputs` map names to shapes, in which a free dimension is a string.
    """

    inputs: dict[str, list[int | str]]
    outputs: dict[str, list[int | str]]

    def run(self, outputs: Sequence[str], feeds: Mapping[str, Any]) -> Sequence[Any]:
        """Inputs are numpy arrays or values of an earlier run; each output is an array or has a
        method ``numpy``.
        """
        ...


def open_graph(folder: Path, name: str, threads: int, device: int = 0) -> Session:
    """``<name>.plan`` of `folder` on the GPU of index `device` where it is there, and otherwise
    ``<name>.onnx`` on the CPU.

    Raises CheckpointError where neither is there, or the plan is for another GPU.
    """
    plan = folder / f"{name}.plan"
    if plan.is_file():
        # torch and TensorRT: only where there are plans
        from pipeline.sessions.tensorrt_session import TensorRtSession

        return TensorRtSession(plan, device=device)
    return OnnxSession(folder / f"{name}.onnx", threads)


class OnnxSession:
    """A graph on ONNX Runtime."""

    def __init__(self, path: Path, threads: int) -> None:
        """Each run uses `threads` cores (0: all). Raises CheckpointError for a file that is not
        there.
        """
        # An arena never gives memory back and cannot reuse it well here, where the caches of one
        # run outlive it: without one the peak is a third lower (at 832x480) in the same time.
        self._session = open_session(path, threads, arena=False)
        self.inputs: dict[str, list[int | str]] = {
            value.name: value.shape for value in self._session.get_inputs()
        }
        self.outputs: dict[str, list[int | str]] = {
            value.name: value.shape for value in self._session.get_outputs()
        }

    def run(self, outputs: Sequence[str], feeds: Mapping[str, Any]) -> list[onnxruntime.OrtValue]:
        # Values stay ONNX Runtime's: caches are gigabytes at 720p, and numpy would copy them.
        values = {name: _value(feed) for name, feed in feeds.items()}
        return list(self._session.run_with_ort_values(list(outputs), values))


def _value(feed: Any) -> onnxruntime.OrtValue:
    return onnxruntime.OrtValue.ortvalue_from_numpy(feed) if isinstance(feed, np.ndarray) else feed


def to_array(value: Any) -> np.ndarray:
    """An output of any session as float32."""
    array = value if isinstance(value, np.ndarray) else value.numpy()
    return array.astype(np.float32, copy=False)
