"""An operator can limit the size and the cost of a request."""

from __future__ import annotations

import pytest

from pipeline.checkpoint.folder import Checkpoint
from pipeline.errors import InputError
from pipeline.families import FAMILIES, Bounds, SamplingParams
from pipeline.families.bounds import CPU, GPU
from tests.conftest import SHAPES

INFO = Checkpoint.open(SHAPES).info
ASKED = SamplingParams(prompt="x", height=64, width=96, num_frames=17, num_inference_steps=20)
COST = 64 * 96 * 17 * 20


@pytest.mark.parametrize(
    ("bounds", "field", "message"),
    [
        (
            {"max_pixels": 6143},
            "width",
            "96x64 has 6,144 pixels; this server allows at most 6,143 (--max-pixels)",
        ),
        (
            {"max_frames": 13},
            "num_frames",
            "17 is too many; this server allows at most 13 (--max-frames)",
        ),
        (
            {"max_steps": 19},
            "num_inference_steps",
            "20 is too many; this server allows at most 19 (--max-steps)",
        ),
        (
            {"max_cost": COST - 1},
            "num_inference_steps",
            f"20 steps of 17 frames of 96x64 cost {COST:,} (their product); "
            f"this server allows at most {COST - 1:,} (--max-cost)",
        ),
    ],
)
def test_the_error_names_field_limit_and_flag(
    bounds: dict[str, int], field: str, message: str
) -> None:
    with pytest.raises(InputError) as refusal:
        INFO.bounded(Bounds(**bounds)).resolve(ASKED)
    assert (refusal.value.field, str(refusal.value)) == (field, f"{field}: {message}")
    allowed = {name: limit + 1 if name != "max_frames" else 17 for name, limit in bounds.items()}
    assert INFO.bounded(Bounds(**allowed)).resolve(ASKED).num_frames == 17


def test_zero_and_none_mean_no_limit() -> None:
    for none in (Bounds(), Bounds(max_pixels=0, max_frames=0, max_steps=0, max_cost=0)):
        INFO.bounded(none).resolve(ASKED)


def test_the_lower_of_two_limits_applies() -> None:
    both = Bounds(max_frames=9, max_steps=0).tightened(
        Bounds(max_frames=5, max_steps=7, max_cost=1)
    )
    assert both == Bounds(max_frames=5, max_steps=7, max_cost=1)


def test_a_limit_that_is_set_overrides_the_device_default_even_if_zero() -> None:
    settled = Bounds(max_cost=0, max_frames=500).settled(CPU)
    assert settled == CPU.model_copy(update={"max_cost": 0, "max_frames": 500})


def test_cpu_limits_refuse_the_defaults_of_large_models_and_gpu_limits_allow_them() -> None:
    for family in FAMILIES.values():
        values = family.defaults
        cost = values.width * values.height * values.num_frames * values.num_inference_steps
        if not values.denoising_timesteps:
            assert cost > (CPU.max_cost or 0), family.name
        assert cost < (GPU.max_cost or 0), family.name
        assert values.width * values.height <= (GPU.max_pixels or 0), family.name
    INFO.bounded(CPU).resolve(SamplingParams(prompt="x", num_inference_steps=200))
