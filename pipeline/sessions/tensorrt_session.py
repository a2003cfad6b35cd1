"""Runs a TensorRT engine as a session, the counterpart of `pipeline.sessions.onnx_session` on a
GPU.

Tensors are torch's, so that everything in the process shares its allocator and its streams.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.errors import CheckpointError
from pipeline.sessions.engine import Engine, Feed
from pipeline.sessions.engine_record import NAMES, EngineRecord


class DeviceTensor:
    """An output that stays in GPU memory until it is read. It may be an input of any session on
    that GPU.
    """

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor

    def numpy(self) -> np.ndarray:
        """Return a copy on the host; bfloat16, which numpy does not have, becomes float32."""
        tensor = self.tensor.float() if self.tensor.dtype == torch.bfloat16 else self.tensor
        return tensor.cpu().numpy()


class TensorRtSession:
    """One engine on one GPU. Several threads may call `run`; the runs are sequential.

    ``inputs`` and ``outputs`` map names to shapes, in which a dynamic dimension is a string.
    """

    def __init__(self, plan: Path, *, device: int = 0) -> None:
        """Load ``plan`` onto the GPU with index ``device``, with the weights that its record keeps
        there.

        Raises ``CheckpointError`` for a missing plan, or one that this machine's GPU or library
        cannot run.
        """
        record = EngineRecord.load(plan)
        trt = _library(record, plan)
        _require_gpu(record, plan)
        self._device = torch.device("cuda", device)
        with torch.cuda.device(self._device):
            self._engine = Engine(trt, plan, record.weight_bytes)
            self._stream = torch.cuda.Stream()
        self._lock = threading.Lock()
        self.inputs: dict[str, list[int | str]] = _shapes(self._engine.layout.inputs)
        self.outputs: dict[str, list[int | str]] = _shapes(self._engine.layout.outputs)

    def run(self, outputs: Sequence[str], feeds: Mapping[str, Any]) -> list[DeviceTensor]:
        """Run the engine and return the named ``outputs`` in order.

        ``feeds`` are numpy arrays or outputs of an earlier run. Raises ``InputError`` for a size
        outside the engine's profile or another data type.
        """
        with self._lock, torch.cuda.device(self._device):
            # All memory is of the caller's stream, so that sessions that run one after the other
            # use the same. Another stream runs the engine: on the default one, TensorRT
            # synchronizes the whole device.
            tensors = {name: _on_device(feed, self._device) for name, feed in feeds.items()}
            stream = self._stream.cuda_stream
            needed = self._engine.set_inputs(
                {name: _feed(tensor) for name, tensor in tensors.items()}, stream
            )
            made = {name: self._empty(name) for name in self.outputs}
            scratch = torch.empty(max(needed, 1), dtype=torch.uint8, device=self._device)
            self._stream.wait_stream(torch.cuda.current_stream())
            addresses = {name: tensor.data_ptr() for name, tensor in made.items()}
            self._engine.start(addresses, scratch.data_ptr(), needed, stream)
            self._stream.synchronize()
        return [DeviceTensor(made[name]) for name in outputs]

    def _empty(self, output: str) -> torch.Tensor:
        return torch.empty(
            self._engine.output_shape(output),
            dtype=getattr(torch, self._engine.layout.outputs[output].dtype),
            device=self._device,
        )


def _library(record: EngineRecord, plan: Path) -> Any:
    try:
        trt = importlib.import_module(record.library)
    except ImportError:
        package = record.library.replace("_", "-")
        raise CheckpointError(
            f"{plan} needs {NAMES[record.library]}: install {package} {record.version}"
        ) from None
    record.require(record.library, trt.__version__, plan)
    return trt


def _require_gpu(record: EngineRecord, plan: Path) -> None:
    if not torch.cuda.is_available():
        raise CheckpointError(f"{plan} needs a GPU that torch can use, and there is none")
    here = "sm{}{}".format(*torch.cuda.get_device_capability())
    if here != record.target:
        raise CheckpointError(
            f"{plan} was built for {record.target}, and this GPU is {here}; export again on it"
        )


def _on_device(feed: Any, device: torch.device) -> torch.Tensor:
    if isinstance(feed, DeviceTensor):
        return feed.tensor
    # torch warns about arrays that are not writable, although nothing is written here.
    return torch.from_numpy(np.require(feed, requirements=("C", "W"))).to(device)


def _feed(tensor: torch.Tensor) -> Feed:
    return Feed(str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), tensor.data_ptr())


def _shapes(ports: Mapping[str, Any]) -> dict[str, list[int | str]]:
    return {
        name: [size if size >= 0 else f"{name}_{axis}" for axis, size in enumerate(port.shape)]
        for name, port in ports.items()
    }
