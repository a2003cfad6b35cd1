"""Runs a TensorRT engine as a session, the counterpart of `pipeline.sessions.onnx_session` on a
GPU.

Tensors are torch's, so that everything in the process shares its allocator and its streams.
"""

from __future__ import annotations

import importlib
import mmap
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.errors import CheckpointError
from pipeline.sessions.engine_layout import EngineLayout
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

    def __init__(self, plan: Path, *, weight_bytes: int | None = None, device: int = 0) -> None:
        """Load ``plan`` onto the GPU with index ``device``.

        An engine built with weight streaming holds at most ``weight_bytes`` of weights on the GPU.

        Raises ``CheckpointError`` for a missing plan, or one that this machine's GPU or library
        cannot run.
        """
        record = EngineRecord.load(plan)
        trt = _library(record, plan)
        _require_gpu(record, plan)
        self._device = torch.device("cuda", device)
        with torch.cuda.device(self._device):
            self._load(trt, record, plan, weight_bytes)

    def _load(self, trt: Any, record: EngineRecord, plan: Path, weight_bytes: int | None) -> None:
        self._logger = trt.Logger(trt.Logger.ERROR)
        self._runtime = trt.Runtime(self._logger)
        self._engine = _load(self._runtime, plan)
        if weight_bytes is not None and record.weight_streaming:
            self._engine.weight_streaming_budget_v2 = min(
                weight_bytes, self._engine.streamable_weights_size
            )
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise CheckpointError(f"{plan} does not fit into the memory of this GPU")
        self._layout = EngineLayout.of(self._engine)
        self._stream, self._lock = torch.cuda.Stream(), threading.Lock()
        self.inputs: dict[str, list[int | str]] = _shapes(self._layout.inputs)
        self.outputs: dict[str, list[int | str]] = _shapes(self._layout.outputs)

    def run(self, outputs: Sequence[str], feeds: Mapping[str, Any]) -> list[DeviceTensor]:
        """Run the engine and return the named ``outputs`` in order.

        ``feeds`` are numpy arrays or outputs of an earlier run. Raises ``InputError`` for a size
        outside the engine's profile or another data type.
        """
        with self._lock, torch.cuda.device(self._device), torch.cuda.stream(self._stream):
            given = {name: _on_device(feed, self._device) for name, feed in feeds.items()}
            self._layout.check(
                {name: (_dtype(tensor), tuple(tensor.shape)) for name, tensor in given.items()}
            )
            for name, tensor in given.items():
                self._context.set_input_shape(name, tuple(tensor.shape))
                self._context.set_tensor_address(name, tensor.data_ptr())
            # TensorRT needs an address for every output, whether requested or not.
            made = {name: self._empty(name) for name in self._layout.outputs}
            for name, tensor in made.items():
                self._context.set_tensor_address(name, tensor.data_ptr())
            if not self._context.execute_async_v3(self._stream.cuda_stream):
                raise RuntimeError("TensorRT refused to run the engine; its log says why")
            self._stream.synchronize()
        return [DeviceTensor(made[name]) for name in outputs]

    def _empty(self, name: str) -> torch.Tensor:
        shape = tuple(self._context.get_tensor_shape(name))
        return torch.empty(
            shape, dtype=getattr(torch, self._layout.outputs[name].dtype), device=self._device
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


def _load(runtime: Any, plan: Path) -> Any:
    try:
        # Memory-mapped: an encoder of several gigabytes is not read into memory first.
        with (
            plan.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            engine = runtime.deserialize_cuda_engine(content)
    except FileNotFoundError:
        raise CheckpointError(f"{plan} is missing; export the checkpoint again") from None
    if engine is None:
        raise CheckpointError(f"{plan} is damaged or does not fit into the memory of this GPU")
    return engine


def _on_device(feed: Any, device: torch.device) -> torch.Tensor:
    if isinstance(feed, DeviceTensor):
        return feed.tensor
    # torch warns about arrays that are not writable, although nothing is written here.
    return torch.from_numpy(np.require(feed, requirements=("C", "W"))).to(device)


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _shapes(ports: Mapping[str, Any]) -> dict[str, list[int | str]]:
    return {
        name: [size if size >= 0 else f"{name}_{axis}" for axis, size in enumerate(port.shape)]
        for name, port in ports.items()
    }
