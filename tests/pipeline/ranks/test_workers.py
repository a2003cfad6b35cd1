"""Encoders and VAE in worker processes compute what diffusers and transformers compute, and a lost
worker is replaced.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from transformers import CLIPTextModel, CLIPVisionModel

from pipeline.checkpoint.folder import Checkpoint
from pipeline.decoders import frames_to_uint8
from pipeline.decoders.opening import torch_engine
from pipeline.ranks.group import RankGroup, Timeouts
from pipeline.ranks.process import RankFailedError, RankLostError
from pipeline.ranks.worker_engine import WorkerEngine
from tests.conftest import SHAPES
from tests.pipeline.ranks.groups import pids, settings

TIMEOUTS = Timeouts(startup=120, heartbeat=15, step=60)
pytestmark = pytest.mark.ranks


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).standard_normal(shape, np.float32)


def test_second_text_encoder_gives_the_pooled_embeddings_of_transformers(
    build_family: Callable[[str], Path],
) -> None:
    path = build_family("hunyuan-video")
    model: Any = CLIPTextModel.from_pretrained(path / "text_encoder_2").eval()
    ids = np.random.default_rng(1).integers(0, model.config.vocab_size, (1, 7))
    with torch.inference_mode():
        expected = model(input_ids=torch.from_numpy(ids)).pooler_output.numpy()
    with RankGroup(settings(path), TIMEOUTS, part="text_encoder_2") as encoder:
        made = encoder.encode({"INPUT_IDS": ids})
    np.testing.assert_allclose(made["POOLED_EMBEDS"], expected, rtol=0, atol=1e-5)


def test_image_encoder_gives_the_last_hidden_state_but_one(
    build_family: Callable[[str], Path],
) -> None:
    path = build_family("wan2.1-i2v")
    model: Any = CLIPVisionModel.from_pretrained(path / "image_encoder").eval()
    side = model.config.image_size
    pixels = normal(1, 3, side, side)
    with torch.inference_mode():
        states = model(torch.from_numpy(pixels), output_hidden_states=True).hidden_states
    with RankGroup(settings(path), TIMEOUTS, part="image_encoder") as encoder:
        made = encoder.encode({"PIXEL_VALUES": pixels})
    np.testing.assert_allclose(made["IMAGE_EMBEDS"], states[-2].numpy(), rtol=0, atol=1e-5)


def test_offloaded_encoder_gives_the_same_embeddings_each_time() -> None:
    ids = np.arange(1, 8)[None]
    given = {"INPUT_IDS": ids, "ATTENTION_MASK": np.ones_like(ids)}
    made = []
    for offload in (False, True):
        asked = settings(SHAPES, text_encoder_offload=offload)
        with RankGroup(asked, TIMEOUTS, part="text_encoder") as encoder:
            made += [encoder.encode(given)["PROMPT_EMBEDS"] for _ in range(2)]
    for each in made[1:]:
        np.testing.assert_array_equal(each, made[0])


def test_vae_encoder_gives_the_latents_of_diffusers(build_family: Callable[[str], Path]) -> None:
    path = build_family("wan2.1-i2v")
    image = np.random.default_rng(2).integers(0, 256, (1, 32, 48, 3), np.uint8)
    vae: Any = AutoencoderKLWan.from_pretrained(path / "vae")
    clip = np.full((9, 32, 48, 3), 0.5, np.float32)
    clip[0] = image[0].astype(np.float32) / 255
    video = torch.from_numpy(clip * 2 - 1).permute(3, 0, 1, 2).unsqueeze(0)
    mean, std = (
        torch.tensor(vae.config[key]).view(1, -1, 1, 1, 1)
        for key in ("latents_mean", "latents_std")
    )
    with torch.no_grad():
        expected = (vae.encode(video).latent_dist.mode() - mean) / std
    with RankGroup(settings(path), TIMEOUTS, part="vae_encoder") as encoder:
        chunks = list(encoder.chunks({"IMAGE": image}, num_frames=9))
    assert len(chunks) == 3
    made = np.concatenate([chunk["IMAGE_LATENTS"] for chunk in chunks], axis=2)
    np.testing.assert_allclose(made, expected.numpy(), rtol=0, atol=1e-4)


@pytest.fixture(scope="module")
def worker() -> Iterator[WorkerEngine]:
    with closing(WorkerEngine(settings(SHAPES, vae_engine="torch"))) as opened:
        yield opened


@pytest.fixture(scope="module")
def latents() -> np.ndarray:
    return normal(1, Checkpoint.open(SHAPES).info.latent_channels, 4, 4, 6)


def test_frames_of_a_worker_are_those_of_the_engine_in_it(
    worker: WorkerEngine, latents: np.ndarray
) -> None:
    engine = torch_engine(settings(SHAPES, vae_engine="torch"), 0)
    expected = list(engine.frames(latents))
    assert (worker.channels, worker.frames_per_latent) == (
        engine.channels,
        engine.frames_per_latent,
    )
    assert worker.runs(4) == len(expected)
    for made, wanted in zip(worker.frames(latents), expected, strict=True):
        np.testing.assert_array_equal(made, wanted)
    for made, wanted in zip(worker.frames(latents, as_uint8=True), expected, strict=True):
        assert made.dtype == np.uint8
        np.testing.assert_array_equal(made, frames_to_uint8(np.clip(wanted, 0, 1)))


def test_closed_frames_stop_the_worker_which_then_decodes_the_next_clip(
    worker: WorkerEngine, latents: np.ndarray
) -> None:
    stopped = worker.frames(latents)
    first = next(stopped)
    stopped.close()
    assert worker.ranks.starts == 1
    frames = list(worker.frames(latents))
    assert len(frames) == 4
    np.testing.assert_array_equal(frames[0], first)


def test_a_killed_worker_fails_its_clip_and_is_replaced(
    worker: WorkerEngine, latents: np.ndarray
) -> None:
    starts = worker.ranks.starts
    frames = worker.frames(latents)
    first = next(frames)
    os.kill(pids(worker.ranks)[0], signal.SIGKILL)
    with pytest.raises(RankLostError, match=r"killed by SIGKILL"):
        list(frames)
    np.testing.assert_array_equal(next(iter(worker.frames(latents))), first)
    assert worker.ranks.starts == starts + 1


def test_an_error_in_a_worker_reaches_the_request_and_the_next_one_works(
    worker: WorkerEngine, latents: np.ndarray
) -> None:
    with pytest.raises(RankFailedError, match="RuntimeError"):
        list(worker.frames(latents[:, :-1]))  # a channel is missing
    assert len(list(worker.frames(latents))) == 4
