"""A layout checks the feeds of an engine. The engine is fake: a real one opens only on its GPU."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pipeline.errors import InputError
from pipeline.sessions.engine_layout import EngineLayout, EnginePort


class Engine:
    """The part of ``ICudaEngine`` that a layout reads. Shapes are lists because TensorRT's ``Dims``
    are not tuples.
    """

    num_io_tensors = 3
    _tensors = {
        "latents": ("INPUT", "FLOAT", [1, 5, 1, -1, -1]),
        "cache_0": ("INPUT", "BF16", [1, 6, 2, -1, -1]),
        "frames": ("OUTPUT", "FLOAT", [4, -1, -1, 3]),
    }
    _bounds = {
        "latents": ([1, 5, 1, 2, 2], [1, 5, 1, 60, 104], [1, 5, 1, 160, 160]),
        "cache_0": ([1, 6, 2, 4, 4], [1, 6, 2, 120, 208], [1, 6, 2, 320, 320]),
    }

    def get_tensor_name(self, index: int) -> str:
        return list(self._tensors)[index]

    def get_tensor_mode(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(name=self._tensors[name][0])

    def get_tensor_dtype(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(name=self._tensors[name][1])

    def get_tensor_shape(self, name: str) -> list[int]:
        return self._tensors[name][2]

    def get_tensor_profile_shape(self, name: str, profile: int) -> tuple[list[int], ...]:
        assert profile == 0
        return self._bounds[name]


LAYOUT = EngineLayout.of(Engine())
CACHE = ("bfloat16", (1, 6, 2, 4, 4))


def test_a_layout_is_read_from_an_engine() -> None:
    assert list(LAYOUT.inputs) == ["latents", "cache_0"]
    assert LAYOUT.inputs["cache_0"] == EnginePort(
        "bfloat16", (1, 6, 2, -1, -1), (1, 6, 2, 4, 4), (1, 6, 2, 320, 320)
    )
    assert LAYOUT.outputs == {"frames": EnginePort("float32", (4, -1, -1, 3))}


@pytest.mark.parametrize("shape", [(1, 5, 1, 2, 2), (1, 5, 1, 160, 160), (1, 5, 1, 2, 160)])
def test_sizes_from_min_to_max_are_accepted(shape: tuple[int, ...]) -> None:
    LAYOUT.check({"latents": ("float32", shape), "cache_0": CACHE})


@pytest.mark.parametrize(
    "shape", [(1, 5, 1, 1, 2), (1, 5, 1, 2, 161), (1, 4, 1, 2, 2), (1, 5, 2, 2), ()]
)
def test_the_error_names_tensor_shape_min_and_max(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError) as caught:
        LAYOUT.check({"latents": ("float32", shape), "cache_0": CACHE})
    sizes = "[1, 5, 1, 2, 2] to [1, 5, 1, 160, 160]"
    sentence = f"latents: {list(shape)} is outside the engine's sizes, {sizes}"
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("feeds", "sentence"),
    [
        (
            {"latents": ("float64", (1, 5, 1, 2, 2)), "cache_0": CACHE},
            "latents: float64 given, and the engine takes",
        ),
        (
            {"latents": ("float32", (1, 5, 1, 2, 2))},
            "cache_0: the engine needs this input; it takes latents, cache_0",
        ),
        (
            {"latents": ("float32", (1, 5, 1, 2, 2)), "cache_0": CACHE, "cache_1": CACHE},
            "cache_1: the engine has no such input; it takes latents, cache_0",
        ),
    ],
)
def test_the_error_names_a_wrong_dtype_or_a_wrong_tensor(feeds: dict, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        LAYOUT.check(feeds)
    assert str(caught.value).startswith(sentence)
