"""The warm-up is a valid request of every family, and its failure names the reason."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import pipeline.client
from cli.runtime.warm_up import warm_up
from pipeline.checkpoint.folder import Checkpoint
from pipeline.errors import GenerationError, ServerError
from pipeline.families import Inputs, ModelInfo, SamplingParams
from pipeline.settings import StageSettings
from tests.conftest import SHAPES


class Client:
    """Takes the place of the client, and checks what it is asked for as the tokenizer does."""

    info: ModelInfo
    error: Exception | None = None
    asked: list[tuple[str, SamplingParams]]

    def __init__(self, url: str) -> None:
        self.url = url

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None: ...

    def generate(self, sampling: SamplingParams, *, inputs: Inputs) -> Iterator[None]:
        if self.error:
            raise self.error
        last = inputs.last_frame is not None
        self.info.resolve(sampling, image=(16, 16) if inputs.image else None, last_frame=last)
        self.asked.append((self.url, sampling))
        yield None


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> type[Client]:
    class Fresh(Client):
        info = Checkpoint.open(SHAPES).info
        asked = []

    monkeypatch.setattr(pipeline.client, "VideoClient", Fresh)
    return Fresh


def repository_of(info: ModelInfo, folder: Path) -> Path:
    version = folder / "dit" / "1"
    version.mkdir(parents=True)
    info.save(version)
    StageSettings(checkpoint="unused").save(version)
    return folder


@pytest.mark.parametrize("image", ["refused", "optional", "required"])
@pytest.mark.parametrize("timesteps", [None, (1000, 750, 500)])
def test_warm_up_is_the_smallest_valid_request(client, tmp_path, image, timesteps):
    info = client.info
    defaults = info.defaults.model_copy(update={"denoising_timesteps": timesteps})
    client.info = info.model_copy(update={"image": image, "defaults": defaults})
    warm_up("url", repository_of(client.info, tmp_path))
    ((url, sampling),) = client.asked
    assert url == "url"
    assert (sampling.width, sampling.num_frames) == (info.size_multiple, 5)
    assert sampling.num_inference_steps == (3 if timesteps else 1)


def test_failed_warm_up_names_the_reason(client, tmp_path):
    client.error = GenerationError("CUDA error: no kernel image", details="a traceback")
    with pytest.raises(ServerError, match=r"the warm-up failed: CUDA error") as caught:
        warm_up("url", repository_of(client.info, tmp_path))
    assert caught.value.details == "a traceback"


def test_other_repositories_are_not_warmed_up(client, tmp_path):
    warm_up("url", tmp_path)
    assert client.asked == []
