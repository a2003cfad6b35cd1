"""Requests choose LoRAs in a real tritonserver, through the client and through the API."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import numpy as np
import pytest
from safetensors.torch import save_file

from cli.params.stage_group import StageGroup
from cli.run.devices import Hardware
from cli.run.stage_settings import stage_settings
from cli.runtime.embedded import EmbeddedServer
from export.repository import prepare_repository
from pipeline.checkpoint.folder import Checkpoint
from pipeline.client import Video, VideoClient
from pipeline.errors import InputError
from pipeline.families import SamplingParams
from tests.e2e.program import KEY, Proxy
from tests.loras import names_of, pairs, transformer

STYLE = [{"name": "style", "scale": 0.5}]


@pytest.fixture(scope="module")
def server(
    patch_checkpoint: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EmbeddedServer]:
    """A server of the LoRAs "style" and "fast"; the second one brings a number of steps."""
    folder, model = tmp_path_factory.mktemp("loras"), transformer(patch_checkpoint)
    (folder / "fast").mkdir()
    for seed, place in enumerate(("style.safetensors", "fast/any.safetensors")):
        save_file(pairs(model, names_of(model).values(), seed=seed), folder / place)
    (folder / "fast" / "triton_video.json").write_text('{"num_inference_steps": 2}')
    checkpoint, stages = Checkpoint.open(patch_checkpoint), StageGroup(lora_path=folder)
    settings = stage_settings(checkpoint, stages, Hardware(gpu=False))
    repository = prepare_repository(checkpoint, settings, lambda message: None, cache)
    with EmbeddedServer(repository) as started:
        yield started


def make(server: EmbeddedServer, **values: Any) -> Video:
    params = SamplingParams(prompt="a red circle", seed=5, **values)
    with VideoClient(server.grpc_url) as client:
        *_, last = client.generate(params, return_frames=True)
    assert isinstance(last, Video)
    return last


def test_each_request_gets_its_loras_and_no_others(server: EmbeddedServer) -> None:
    plain, style, none = (make(server, lora=lora) for lora in (None, STYLE, []))
    assert np.array_equal(plain.frames, none.frames)
    assert not np.array_equal(plain.frames, style.frames)
    assert [(use.name, use.scale) for use in style.request.lora] == [("style", 0.5)]
    assert np.array_equal(make(server, lora=STYLE).frames, style.frames)


def test_a_lora_brings_its_steps(server: EmbeddedServer) -> None:
    fast = make(server, lora=[{"name": "fast"}])
    assert fast.request.num_inference_steps == 2
    asked = make(server, lora=[{"name": "fast"}], num_inference_steps=3)
    assert asked.request.num_inference_steps == 3


@pytest.mark.parametrize("name", ["unknown", "../style", "/etc/passwd", "https://example.com/a"])
def test_an_unknown_name_is_refused_with_the_known_ones(server: EmbeddedServer, name: str) -> None:
    with pytest.raises(InputError) as caught:
        make(server, lora=[{"name": name}])
    assert str(caught.value) == f"lora: {name!r} is not known; this server has fast, style"


def test_the_api_lists_and_takes_loras(server: EmbeddedServer, tmp_path: Path) -> None:
    proxy = Proxy(server.grpc_url, tmp_path / "data")
    proxy.start()
    headers = {"authorization": f"Bearer {KEY}"}
    try:
        with httpx.Client(base_url=proxy.url, headers=headers, timeout=60) as api:
            (model,) = api.get("/v1/models").json()["data"]
            assert model["loras"] == ["fast", "style"]
            body = {"prompt": "a red circle", "seed": 5, "lora": STYLE}
            created = api.post("/v1/videos/sync", json=body)
            assert created.status_code == 200, created.text
            refused = api.post("/v1/videos", json={**body, "lora": [{"name": "x"}]})
            assert (refused.status_code, refused.json()["error"]["param"]) == (400, "lora")
    finally:
        proxy.stop(signal.SIGKILL)
