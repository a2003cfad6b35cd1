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
    num_optimization_profiles = 2
    _tensors = {
        "latents": ("INPUT", "FLOAT", [1, 5, 1, -1, -1]),
        "cache_0": ("INPUT", "BF16", [1, 6, 2, -1, -1]),
        "frames": ("OUTPUT", "FLOAT", [4, -1, -1, 3]),
    }
    _bounds = {
        ("latents", 0): ([1, 5, 1, 2, 2], [1, 5, 1, 60, 104], [1, 5, 1, 90, 160]),
        ("cache_0", 0): ([1, 6, 2, 4, 4], [1, 6, 2, 120, 208], [1, 6, 2, 180, 320]),
        ("latents", 1): ([1, 5, 1, 2, 2], [1, 5, 1, 104, 60], [1, 5, 1, 160, 90]),
        ("cache_0", 1): ([1, 6, 2, 4, 4], [1, 6, 2, 208, 120], [1, 6, 2, 320, 180]),
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
        return self._bounds[name, profile]


LAYOUT = EngineLayout.of(Engine())
CACHE = ("bfloat16", (1, 6, 2, 4, 4))


def test_a_layout_is_read_from_an_engine() -> None:
    assert list(LAYOUT.inputs) == ["latents", "cache_0"]
    assert LAYOUT.inputs["cache_0"] == EnginePort(
        "bfloat16",
        (1, 6, 2, -1, -1),
        (((1, 6, 2, 4, 4), (1, 6, 2, 180, 320)), ((1, 6, 2, 4, 4), (1, 6, 2, 320, 180))),
    )
    assert LAYOUT.outputs == {"frames": EnginePort("float32", (4, -1, -1, 3))}


@pytest.mark.parametrize(
    ("height", "width", "profile"),
    [(2, 2, 0), (90, 90, 0), (90, 160, 0), (2, 160, 0), (160, 90, 1), (91, 2, 1)],
)
def test_the_first_profile_that_takes_all_inputs_is_chosen(
    height: int, width: int, profile: int
) -> None:
    feeds = {
        "latents": ("float32", (1, 5, 1, height, width)),
        "cache_0": ("bfloat16", (1, 6, 2, 2 * height, 2 * width)),
    }
    assert LAYOUT.profile_for(feeds) == profile


@pytest.mark.parametrize(
    "shape", [(1, 5, 1, 1, 2), (1, 5, 1, 2, 161), (1, 5, 1, 91, 91), (1, 5, 2, 2), ()]
)
def test_the_error_names_tensor_shape_profiles_and_flag(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError) as caught:
        LAYOUT.profile_for({"latents": ("float32", shape), "cache_0": CACHE})
    sizes = "[1, 5, 1, 2, 2] to [1, 5, 1, 90, 160] or [1, 5, 1, 2, 2] to [1, 5, 1, 160, 90]"
    assert str(caught.value) == (
        f"latents: {list(shape)} is outside the engine's sizes, {sizes}; "
        "--engine-max-pixels builds an engine for larger ones"
    )


def test_inputs_that_no_profile_takes_together_are_an_error() -> None:
    feeds = {
        "latents": ("float32", (1, 5, 1, 90, 160)),
        "cache_0": ("bfloat16", (1, 6, 2, 320, 180)),
    }
    with pytest.raises(InputError, match=r"^cache_0: \[1, 6, 2, 320, 180\] is outside"):
        LAYOUT.profile_for(feeds)


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
        LAYOUT.profile_for(feeds)
    assert str(caught.value).startswith(sentence)
