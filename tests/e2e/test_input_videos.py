"""Edits and extensions through a real Triton: frames as diffusers makes them, and those of the
source.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import WanPipeline, WanVideoToVideoPipeline

from cli.runtime.embedded import EmbeddedServer
from export.repository import prepare_repository
from pipeline.checkpoint.folder import Checkpoint
from pipeline.client import Video, VideoClient
from pipeline.decoders import frames_to_uint8
from pipeline.errors import InputError
from pipeline.families import Inputs, SamplingParams
from pipeline.media.input_video import frames_of
from pipeline.media.mp4 import Mp4Writer
from pipeline.settings import VaeConfig
from tests.e2e.engines import settings_for
from tests.needs import exhaustive

PROMPT, NEGATIVE = "a red circle moves right", "blue square"
WIDTH, HEIGHT, FPS = 48, 32, 5


@pytest.fixture(scope="module")
def source() -> bytes:
    """An MP4 of 14 frames: 13 of them fill latent frames."""
    noise = np.random.default_rng(3).integers(0, 256, (4, 6, 3), np.uint8)
    still = noise.repeat(8, axis=0).repeat(8, axis=1)
    with Mp4Writer(WIDTH, HEIGHT, FPS) as writer:
        writer.add(np.stack([np.roll(still, 2 * shift, axis=1) for shift in range(14)]))
        return writer.finish()


@pytest.fixture(scope="module")
def checkpoint(build_family: Callable[[str], Path]) -> Path:
    return build_family("small-ti2v")


@pytest.fixture(scope="module", params=["torch", exhaustive("graph")])
def client(request: pytest.FixtureRequest, checkpoint: Path, cache: Path) -> Iterator[VideoClient]:
    settings = settings_for(checkpoint, request.param)
    repository = prepare_repository(Checkpoint.open(checkpoint), settings, lambda text: None, cache)
    with EmbeddedServer(repository) as server, VideoClient(server.grpc_url) as opened:
        yield opened


@pytest.fixture(scope="module")
def text_to_video(build_family: Callable[[str], Path]) -> Path:
    return build_family("wan2.1-t2v")


@pytest.fixture(scope="module")
def editing_client(text_to_video: Path, cache: Path) -> Iterator[VideoClient]:
    """A text-to-video model that has the VAE's encoder too."""
    settings = settings_for(text_to_video, "torch").model_copy(
        update={"vae_config": VaeConfig(load_encoder=True)}
    )
    checkpoint = Checkpoint.open(text_to_video).with_vae_encoder()
    repository = prepare_repository(checkpoint, settings, lambda text: None, cache)
    with EmbeddedServer(repository) as server, VideoClient(server.grpc_url) as opened:
        yield opened


def make(client: VideoClient, inputs: Inputs, **values: Any) -> tuple[Video, np.ndarray]:
    params = SamplingParams(
        prompt=PROMPT, negative_prompt=NEGATIVE, seed=5, num_inference_steps=6, **values
    )
    *_, made = client.generate(params, inputs=inputs, return_frames=True)
    assert isinstance(made, Video)
    assert made.frames is not None
    return made, made.frames


def edited_by_diffusers(checkpoint: Path, frames: np.ndarray, strength: float) -> np.ndarray:
    """Return the frames of diffusers' video-to-video pipeline, uint8 (T, H, W, 3).

    Its own encoding does not know a VAE of patches, so its latents are made here.
    """
    plain: Any = WanPipeline.from_pretrained(checkpoint)
    kept = ("tokenizer", "text_encoder", "vae", "scheduler", "transformer")
    pipeline: Any = WanVideoToVideoPipeline(**{name: plain.components[name] for name in kept})
    pipeline.set_progress_bar_config(disable=True)
    vae, scheduler = pipeline.vae, pipeline.scheduler
    video = torch.from_numpy(frames.astype(np.float32) / 127.5 - 1).permute(3, 0, 1, 2)[None]
    mean, std = (
        torch.tensor(vae.config[name]).view(1, -1, 1, 1, 1)
        for name in ("latents_mean", "latents_std")
    )
    with torch.no_grad():
        clean = (vae.encode(video).latent_dist.mode() - mean) / std
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(5))
    scheduler.set_timesteps(6)
    begin = scheduler.timesteps[6 - int(6 * strength) :][:1]
    made = pipeline(
        prompt=PROMPT, negative_prompt=NEGATIVE, max_sequence_length=20, strength=strength,
        latents=scheduler.scale_noise(clean, begin, noise), num_inference_steps=6, output_type="np",
    )  # fmt: skip
    return frames_to_uint8(made.frames[0])


@pytest.mark.timeout(600)  # the graphs of both halves of a VAE may have to be exported
def test_an_edit_equals_diffusers(client: VideoClient, checkpoint: Path, source: bytes) -> None:
    made, frames = make(client, Inputs(video=source), strength=0.5)
    theirs = edited_by_diffusers(checkpoint, np.stack(list(frames_of(source, 0, 13))), 0.5)
    assert theirs.std() > 5
    assert np.abs(frames.astype(int) - theirs.astype(int)).max() <= 1
    assert (made.request.num_frames, made.request.fps) == (13, FPS)


def test_a_text_to_video_model_edits_with_the_vaes_encoder(
    editing_client: VideoClient, text_to_video: Path, source: bytes
) -> None:
    made, frames = make(editing_client, Inputs(video=source), strength=0.5)
    theirs = edited_by_diffusers(text_to_video, np.stack(list(frames_of(source, 0, 13))), 0.5)
    assert theirs.std() > 5
    assert np.abs(frames.astype(int) - theirs.astype(int)).max() <= 1
    assert made.request.num_frames == 13
    plain, _ = make(editing_client, Inputs())
    assert plain.request.strength is None
    with pytest.raises(InputError, match="extends no videos; it edits them: set strength"):
        make(editing_client, Inputs(video=source))


def test_an_extension_is_the_source_and_then_new_frames(client: VideoClient, source: bytes) -> None:
    made, frames = make(client, Inputs(video=source), num_frames=9)
    own = np.stack(list(frames_of(source)))
    np.testing.assert_array_equal(frames[:14], own)
    assert frames.shape == (14 + 8, HEIGHT, WIDTH, 3)
    assert made.request.prefix_frames == 1
    # The default is shorter than the native 9 frames, and begins with two latent frames.
    shorter, fewer = make(client, Inputs(video=source))
    assert (shorter.request.prefix_frames, len(fewer)) == (5, 14 + 4)
    saved = list(frames_of(made.mp4))
    assert len(saved) == 22
    assert np.abs(np.stack(saved[:14]).astype(int) - own.astype(int)).mean() < 6


def test_what_does_not_go_together_is_refused(client: VideoClient, source: bytes) -> None:
    for inputs, values, message in (
        (Inputs(video=source), {"strength": 0.1}, "strength: 0.1 of 6 steps leaves none"),
        (Inputs(video=source), {"width": 64}, "width: 64 is not valid; it must be that of"),
        (Inputs(video=b"rubbish"), {}, "input_video: not an MP4 or WebM video"),
        (Inputs(last_frame=b""), {}, "last_frame: not supported; the model"),
        (Inputs(), {"strength": 0.5}, "strength: requires input_video"),
    ):
        with pytest.raises(InputError, match=message):
            make(client, inputs, **values)


def test_a_plain_request_needs_no_video(client: VideoClient) -> None:
    made, frames = make(client, Inputs())
    assert len(frames) == made.request.total_frames == 9
