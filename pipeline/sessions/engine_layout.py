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
    """One tensor; -1 in ``shape`` is a dynamic dimension. ``profiles`` are the smallest and the
    largest shape of an input in each optimization profile.
    """

    dtype: str
    shape: Shape
    profiles: tuple[tuple[Shape, Shape], ...] = ()

    def takes(self, shape: Shape, profile: int) -> bool:
        """Return whether an input may have this shape in a profile."""
        low, high = self.profiles[profile]
        return len(shape) == len(low) and all(
            least <= size <= most for least, size, most in zip(low, shape, high, strict=True)
        )


@dataclass(frozen=True)
class EngineLayout:
    """The inputs and outputs by name, in the engine's order."""

    inputs: Mapping[str, EnginePort]
    outputs: Mapping[str, EnginePort]

    @classmethod
    def of(cls, engine: Any) -> Self:
        """Read the layout from an ``ICudaEngine`` of either library."""
        inputs: dict[str, EnginePort] = {}
        outputs: dict[str, EnginePort] = {}
        for index in range(engine.num_io_tensors):
            name = engine.get_tensor_name(index)
            dtype, shape = (
                DTYPES[engine.get_tensor_dtype(name).name],
                tuple(engine.get_tensor_shape(name)),
            )
            if engine.get_tensor_mode(name).name == "INPUT":
                inputs[name] = EnginePort(
                    dtype,
                    shape,
                    tuple(
                        _bounds(engine, name, profile)
                        for profile in range(engine.num_optimization_profiles)
                    ),
                )
            else:
                outputs[name] = EnginePort(dtype, shape)
        return cls(inputs, outputs)

    def profile_for(self, feeds: Mapping[str, tuple[str, Shape]]) -> int:
        """Return the first profile that takes ``feeds``, which map names to data types and shapes.

        Raises ``InputError`` that names the tensor and what the engine accepts: for a size outside
        all profiles, another data type, or an unknown or missing tensor.
        """
        for name in self.inputs.keys() ^ feeds.keys():
            problem = (
                "the engine has no such input" if name in feeds else "the engine needs this input"
            )
            raise InputError(name, f"{problem}; it takes {', '.join(self.inputs)}")
        for name, (dtype, _) in feeds.items():
            if dtype != self.inputs[name].dtype:
                raise InputError(
                    name, f"{dtype} given, and the engine takes {self.inputs[name].dtype}"
                )
        refused = [
            [name for name, (_, shape) in feeds.items() if not self.inputs[name].takes(shape, n)]
            for n in range(min(len(port.profiles) for port in self.inputs.values()))
        ]
        # The profile that refuses the fewest inputs is the one that was meant.
        profile = min(range(len(refused)), key=lambda n: len(refused[n]))
        for name in refused[profile]:
            raise InputError(name, self._outside(name, feeds[name][1]))
        return profile

    def _outside(self, name: str, shape: Shape) -> str:
        sizes = " or ".join(
            f"{list(low)} to {list(high)}" for low, high in self.inputs[name].profiles
        )
        return (
            f"{list(shape)} is outside the engine's sizes, {sizes}; "
            "--engine-max-pixels builds an engine for larger ones"
        )


def _bounds(engine: Any, name: str, profile: int) -> tuple[Shape, Shape]:
    low, _, high = engine.get_tensor_profile_shape(name, profile)
    return tuple(low), tuple(high)
