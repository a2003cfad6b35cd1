"""Requests of the API choose LoRAs by name, in JSON and in forms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.checkpoint.folder import Checkpoint
from pipeline.families import ModelInfo
from pipeline.families.lora import LoraInfo, LoraPreset, Loras, LoraUse
from tests.proxy.conftest import SHAPES, Api

STYLE = [{"name": "style", "scale": 0.5}]


@pytest.fixture
def info() -> ModelInfo:
    fast = LoraInfo(name="fast", preset=LoraPreset(num_inference_steps=2))
    loras = Loras(available=(fast, LoraInfo(name="style")), applied=(LoraUse(name="fast"),))
    return Checkpoint.open(Path(SHAPES)).info.model_copy(update={"loras": loras})


async def stored(api: Api, video: dict[str, Any]) -> list[tuple[str, float | None]]:
    """Return the LoRAs of the job of a video, as its Triton gets them."""
    owner = api.app.context.keys.owner(api.http.headers["authorization"])
    job = await api.service.jobs.get(owner, video["id"])
    assert job is not None
    assert job.params.lora is not None
    return [(use.name, use.scale) for use in job.params.lora]


async def test_json_forms_and_extra_params_choose_loras(api: Api) -> None:
    body = {"prompt": "a red circle"}
    answers = [
        await api.http.post("/v1/videos", json={**body, "lora": STYLE}),
        await api.http.post("/v1/videos", json={**body, "extra_params": {"lora": STYLE}}),
        await api.http.post("/v1/videos", data={**body, "lora": json.dumps(STYLE)}),
        await api.http.post("/v1/videos", data={**body, "lora": json.dumps(STYLE[0])}),
    ]
    for answer in answers:
        assert answer.status_code == 200, answer.text
        assert await stored(api, answer.json()) == [("style", 0.5)]


async def test_a_request_without_a_choice_stores_those_of_the_server(api: Api) -> None:
    video = await api.create()
    assert await stored(api, video) == [("fast", 1.0)]
    assert await stored(api, await api.create(lora=[])) == []
    assert (await api.wait(video["id"]))["status"] == "completed"


async def test_a_remix_keeps_the_loras(api: Api) -> None:
    video = await api.wait((await api.create(lora=STYLE))["id"])
    answer = await api.http.post(f"/v1/videos/{video['id']}/remix", json={"prompt": "blue"})
    assert answer.status_code == 200, answer.text
    assert await stored(api, answer.json()) == [("style", 0.5)]


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        ([{"name": "../style"}], "'../style' is not known; this server has fast, style"),
        ([{"name": "style", "path": "/x"}], "Extra inputs are not permitted"),
        ([{"name": "https://example.com/x"}], "is not known"),
        ("style", "should be a list such as"),
        ([{"name": "style", "scale": 99}], "less than or equal to 10"),
        ([{"name": "style"}, {"name": "style"}], "'style' occurs twice"),
    ],
)
async def test_other_values_are_refused(api: Api, lora: Any, message: str) -> None:
    answer = await api.http.post("/v1/videos", json={"prompt": "x", "lora": lora})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"].partition(".")[0]) == (400, "lora")
    assert message in error["message"]


async def test_models_are_listed_with_their_loras(api: Api) -> None:
    (model,) = (await api.http.get("/v1/models")).json()["data"]
    assert model["loras"] == ["fast", "style"]
