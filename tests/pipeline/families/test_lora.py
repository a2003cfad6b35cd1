"""Requests choose among the LoRAs of a server by name, and take the defaults that those bring."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.checkpoint.folder import Checkpoint
from pipeline.errors import InputError
from pipeline.families import ModelInfo, SamplingParams, VideoRequest
from pipeline.families.lora import MAX_LORAS, LoraFile, LoraInfo, LoraPreset, Loras, LoraUse
from tests.conftest import SHAPES

FAST = LoraPreset(num_inference_steps=4, guidance_scale=1.0, flow_shift=5.0)
AVAILABLE = (
    LoraInfo(name="fast", preset=FAST),
    LoraInfo(name="style", scale=0.7),
    LoraInfo(name="slow", preset=LoraPreset(num_inference_steps=30)),
)


def info(**values: Any) -> ModelInfo:
    loras = Loras(**{"available": AVAILABLE, **values})
    return Checkpoint.open(SHAPES).info.model_copy(update={"loras": loras})


def resolve(model: ModelInfo, **values: Any) -> VideoRequest:
    return model.resolve(SamplingParams(prompt="-", **values))


def uses(request: VideoRequest) -> list[tuple[str, float | None]]:
    return [(use.name, use.scale) for use in request.lora]


def test_a_request_without_a_choice_gets_those_of_the_server() -> None:
    assert uses(resolve(info())) == []
    applied = info(applied=(LoraUse(name="style"), LoraUse(name="fast", scale=0.5)))
    assert uses(resolve(applied)) == [("style", 0.7), ("fast", 0.5)]
    assert uses(resolve(applied, lora=[])) == []


def test_scales_come_from_the_request_then_from_the_lora() -> None:
    chosen = resolve(info(), lora=[{"name": "style"}, {"name": "fast", "scale": -0.5}])
    assert uses(chosen) == [("style", 0.7), ("fast", -0.5)]
    assert uses(resolve(info(), lora=[{"name": "style", "scale": 0}])) == []


def test_lists_may_be_json_text() -> None:
    text = json.dumps([{"name": "style", "scale": 0.2}])
    assert uses(resolve(info(), lora=text)) == [("style", 0.2)]
    assert uses(resolve(info(), lora='{"name": "fast"}')) == [("fast", 1.0)]


@pytest.mark.parametrize(
    "value",
    [
        "style", "[", "[" * 3000, "x" * 9000, 7, ["style"], [{}], [{"name": "a", "path": "/b"}],
        [{"name": "a", "scale": "nan"}], [{"name": "a", "scale": 11}], [{"name": "a" * 65}],
        [{"name": "a"}] * (MAX_LORAS + 1),
    ],
)  # fmt: skip
def test_other_values_are_refused(value: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        SamplingParams(prompt="-", lora=value)
    assert caught.value.errors()[0]["loc"][0] == "lora"


@pytest.mark.parametrize(
    ("values", "lora", "message"),
    [
        ({}, [{"name": "styl"}], "lora: 'styl' is not known; this server has fast, style, slow"),
        ({"available": ()}, [{"name": "a"}], "lora: 'a' is not known; this server has no LoRAs"),
        ({}, [{"name": "/etc/passwd"}], "lora: '/etc/passwd' is not known; this server has"),
        ({}, [{"name": "fast"}] * 2, "lora: 'fast' occurs twice; name each LoRA once"),
        (
            {"most": 1},
            [{"name": "fast"}, {"name": "style"}],
            r"lora: 2 are too many; a request may use 1 \(--max-loras\)",
        ),
        (
            {"applied": (LoraUse(name="style"),), "fixed": True},
            [],
            r"lora: not allowed: this server always applies style \(0\.7\)",
        ),
        (
            {"applied": (LoraUse(name="style"),), "fixed": True},
            [{"name": "style", "scale": 0.6}],
            "lora: not allowed",
        ),
    ],
)
def test_the_error_names_what_the_server_has(
    values: dict[str, Any], lora: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        resolve(info(**values), lora=lora)


def test_fixed_loras_may_be_named() -> None:
    fixed = info(applied=(LoraUse(name="style"),), fixed=True)
    assert uses(resolve(fixed)) == [("style", 0.7)]
    assert resolve(fixed, lora=[{"name": "style"}], seed=1) == resolve(fixed, seed=1)


def test_a_lora_brings_defaults_and_a_request_overrides_them() -> None:
    plain, fast = resolve(info()), resolve(info(), lora=[{"name": "fast"}])
    assert (fast.num_inference_steps, fast.guidance_scale, fast.flow_shift) == (4, 1.0, 5.0)
    assert (plain.num_inference_steps, plain.flow_shift) == (20, None)
    asked = resolve(info(), lora=[{"name": "fast"}], num_inference_steps=6, flow_shift=2.0)
    assert (asked.num_inference_steps, asked.guidance_scale, asked.flow_shift) == (6, 1.0, 2.0)


def test_the_last_of_several_loras_decides() -> None:
    both = resolve(info(), lora=[{"name": "fast"}, {"name": "slow"}])
    assert (both.num_inference_steps, both.guidance_scale) == (30, 1.0)


def test_a_lora_that_is_turned_off_brings_no_defaults() -> None:
    off = resolve(info(), lora=[{"name": "fast", "scale": 0}])
    assert (off.num_inference_steps, off.lora) == (20, ())


def test_clients_see_no_paths() -> None:
    file = LoraFile(name="a", path="/secret/a.safetensors", elements=7, scale=0.5)
    loras = Loras.of([file], [LoraUse(name="a")], fixed=False, most=2)
    assert "secret" not in loras.model_dump_json()
    assert loras.available == (LoraInfo(name="a", scale=0.5),)


def test_a_resolved_request_survives_as_json() -> None:
    request = resolve(info(), lora=[{"name": "style"}])
    assert VideoRequest.model_validate_json(request.model_dump_json()) == request
