"""The tensors of a TensorRT engine and the sizes it accepts: everything about a run that needs no
GPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from pipeline.errors import InputError

DTYPES: Mapping[str, str] = {
    "FLOAT": "float32",
    "HALF": "float16",
    "BF16": "bfloat16",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
}
"""Maps TensorRT's name of a data type to that of numpy and torch."""

Shape = tuple[int, ...]


@dataclass(frozen=True)
class EnginePort:
    """One tensor; -1 in ``shape`` is a dynamic dimension. An input accepts shapes between ``least``
    and ``most``.
    """

    dtype: str
    shape: Shape
    least: Shape = ()
    most: Shape = ()

    def takes(self, shape: Shape) -> bool:
        return len(shape) == len(self.least) and all(
            low <= size <= high
            for low, size, high in zip(self.least, shape, self.most, strict=True)
        )


@dataclass(frozen=True)
class EngineLayout:
    """The inputs and outputs by name, in the engine's order."""

    inputs: Mapping[str, EnginePort]
    outputs: Mapping[str, EnginePort]

    @classmethod
    def of(cls, engine: Any) -> Self:
        """Read the layout from an ``ICudaEngine`` of either library; only its first profile is
        used.
        """
        inputs: dict[str, EnginePort] = {}
        outputs: dict[str, EnginePort] = {}
        for index in range(engine.num_io_tensors):
            name = engine.get_tensor_name(index)
            dtype, shape = (
                DTYPES[engine.get_tensor_dtype(name).name],
                tuple(engine.get_tensor_shape(name)),
            )
            if engine.get_tensor_mode(name).name == "INPUT":
                least, _, most = (
                    tuple(bound) for bound in engine.get_tensor_profile_shape(name, 0)
                )
                inputs[name] = EnginePort(dtype, shape, least, most)
            else:
                outputs[name] = EnginePort(dtype, shape)
        return cls(inputs, outputs)

    def check(self, feeds: Mapping[str, tuple[str, Shape]]) -> None:
        """Check ``feeds``, which maps names to data types and shapes.

        Raises ``InputError`` that names the tensor and what the engine accepts: for a size outside
        the profile, another data type, or an unknown or missing tensor.
        """
        for name in self.inputs.keys() ^ feeds.keys():
            problem = (
                "the engine has no such input" if name in feeds else "the engine needs this input"
            )
            raise InputError(name, f"{problem}; it takes {', '.join(self.inputs)}")
        for name, (dtype, shape) in feeds.items():
            port = self.inputs[name]
            if dtype != port.dtype:
                raise InputError(name, f"{dtype} given, and the engine takes {port.dtype}")
            if not port.takes(shape):
                raise InputError(
                    name,
                    f"{list(shape)} is outside the engine's sizes, {list(port.least)} to "
                    f"{list(port.most)}",
                )
