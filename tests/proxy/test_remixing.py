"""What a remix keeps of its source, with the same model and with another one."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.families import SamplingParams
from proxy.jobs.model import Job
from proxy.remixing import keep
from proxy.spellings import Body

KEPT = {"width": 64, "height": 48, "num_frames": 9, "fps": 8}
SOURCE = Job(
    **dict.fromkeys(Job.__dataclass_fields__.keys() - {"params"}),
    params=SamplingParams(
        prompt="old", seed=7, guidance_scale=2.5, num_inference_steps=4, negative_prompt="n", **KEPT
    ),
)


def kept(fields: dict[str, Any], *, same_model: bool = True) -> dict[str, Any]:
    """Return the fields of a remix that have a value."""
    body = Body(fields={"prompt": "new", **fields})
    keep(body, SOURCE, same_model=same_model)
    return {name: value for name, value in body.fields.items() if value is not None}


def test_all_but_prompt_and_seed_is_kept() -> None:
    own = {"guidance_scale": 2.5, "num_inference_steps": 4, "negative_prompt": "n"}
    assert kept({}) == {"prompt": "new", **KEPT, **own}


def test_another_model_keeps_size_and_length_only() -> None:
    assert kept({}, same_model=False) == {"prompt": "new", **KEPT}


@pytest.mark.parametrize(
    ("fields", "dropped"),
    [
        *[({name: "x"}, {"width", "height"}) for name in ("size", "aspect_ratio", "resolution")],
        ({"width": 32}, {"width", "height"}),
        ({"seconds": 1}, {"num_frames"}),
        ({"num_frames": 5}, {"num_frames"}),
        ({"seed": 1, "fps": 4, "size": None}, set[str]()),
    ],
)
@pytest.mark.parametrize("same_model", [True, False])
def test_size_and_length_are_kept_whole_or_not_at_all(
    fields: dict[str, Any], dropped: set[str], same_model: bool
) -> None:
    found = kept(fields, same_model=same_model)
    for name, value in KEPT.items():
        assert found.get(name) == fields.get(name, None if name in dropped else value)
    assert found.get("seed") == fields.get("seed")
