"""Runs a TensorRT engine in memory that the caller gives. No torch: addresses and CUDA streams are
numbers, so that a machine without a GPU can check every call.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.errors import CheckpointError
from pipeline.sessions.engine_layout import EngineLayout, Shape


class Feed(NamedTuple):
    """An input in device memory; ``dtype`` is numpy's name."""

    dtype: str
    shape: Shape
    address: int


class Engine:
    """An engine on the current GPU, with one execution context. Not for several threads at once.

    A context that allocates its memory itself (``STATIC``) keeps what the largest sizes of all
    profiles need for as long as it lives: 18 GB for the VAE decoder of Wan 2.1. This one needs
    memory for the sizes of a run, during the run.
    """

    def __init__(self, trt: Any, plan: Path, weight_bytes: int | None = None) -> None:
        """Load ``plan`` with the library ``trt``. ``weight_bytes`` is the weight streaming budget
        of an engine that was built for it: the other weights stay in host memory.

        Raises ``CheckpointError`` if the plan is missing or TensorRT cannot load it.
        """
        self._logger = trt.Logger(trt.Logger.ERROR)
        self._runtime = trt.Runtime(self._logger)
        self._engine = _deserialized(self._runtime, plan)
        if weight_bytes is not None:
            self._engine.weight_streaming_budget_v2 = min(
                weight_bytes, self._engine.streamable_weights_size
            )
        self.layout = EngineLayout.of(self._engine)
        self._context = self._engine.create_execution_context(
            trt.ExecutionContextAllocationStrategy.USER_MANAGED
        )
        if self._context is None:
            raise CheckpointError(f"{plan} does not fit into the memory of this GPU")
        self._profile = 0

    def set_inputs(self, feeds: Mapping[str, Feed], stream: int) -> int:
        """Set every input, and return the bytes of device memory that the run needs.

        Switching the optimization profile is work on ``stream``. Raises ``InputError`` for a size
        outside the engine's profiles or another data type.
        """
        profile = self.layout.profile_for({name: feed[:2] for name, feed in feeds.items()})
        if profile != self._profile:
            _require(self._context.set_optimization_profile_async(profile, stream))
            self._profile = profile
        for name, feed in feeds.items():
            _require(self._context.set_input_shape(name, feed.shape))
            _require(self._context.set_tensor_address(name, feed.address))
        return self._context.update_device_memory_size_for_shapes()

    def output_shape(self, name: str) -> Shape:
        """Return the shape of an output for the inputs that are set."""
        return tuple(self._context.get_tensor_shape(name))

    def start(
        self, outputs: Mapping[str, int], memory: int, memory_bytes: int, stream: int
    ) -> None:
        """Start the run on ``stream``. All memory must stay until the stream is done.

        ``outputs`` are addresses, one for every output of the engine, whether it is read or not.
        The address ``memory`` is a multiple of 256, and ``memory_bytes`` are at least what
        `set_inputs` returned.
        """
        for name, address in outputs.items():
            _require(self._context.set_tensor_address(name, address))
        self._context.set_device_memory(memory, memory_bytes)
        _require(self._context.execute_async_v3(stream))


def _deserialized(runtime: Any, plan: Path) -> Any:
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


def _require(accepted: bool) -> None:
    if not accepted:
        raise RuntimeError("TensorRT refused to run the engine; its log says why")
