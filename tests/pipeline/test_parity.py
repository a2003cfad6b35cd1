"""Every stage matches ``diffusers.WanPipeline`` for the same weights, seed and steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import WanPipeline

from export.repository import prepare_repository
from pipeline.checkpoint.folder import Checkpoint
from pipeline.decoders import Decoder, open_decoder
from pipeline.families import VideoRequest
from pipeline.ranks.group import RankGroup
from pipeline.settings import StageSettings
from pipeline.stages.text_encoder import Exported
from pipeline.stages.tokenizer import TokenizedRequest, TokenizerStage
from pipeline.stages.vae_decoder import VaeDecoderStage
from tests.diffusers_call import call_diffusers
from tests.pipeline.ranks.groups import run_one

pytestmark = [pytest.mark.export, pytest.mark.ranks]

PROMPT, NEGATIVE = "a red circle &amp;  moves left", "blue on black"


@dataclass
class Stages:
    tokenizer: TokenizerStage
    text_encoder: Exported
    ranks: RankGroup
    decoder: Decoder
    vae: VaeDecoderStage
    reference: WanPipeline

    def tokens(self, **values: Any) -> TokenizedRequest:
        given = {"prompt": PROMPT, "negative_prompt": NEGATIVE, "seed": 7, **values}
        return self.tokenizer.run(given, return_frames=True)

    def embeds(self, tokens: TokenizedRequest) -> dict[str, np.ndarray]:
        names = ("INPUT_IDS", "ATTENTION_MASK")
        return {
            f"{text}_embeds": self.text_encoder.run(
                {name: tokens.tensors[f"{prefix}{name}"] for name in names}
            )["PROMPT_EMBEDS"]
            for text, prefix in (("prompt", ""), ("negative", "NEGATIVE_"))
        }

    def latents(self, tokens: TokenizedRequest) -> np.ndarray:
        return run_one(self.ranks, tokens.request, self.embeds(tokens))

    def diffusers(self, request: VideoRequest, output_type: str) -> np.ndarray:
        return call_diffusers(
            self.reference,
            request,
            output_type,
            prompt=PROMPT,
            negative_prompt=NEGATIVE,
            max_sequence_length=self.tokenizer.info.defaults.max_sequence_length,
        )


@pytest.fixture(scope="module", params=["plain_checkpoint", "patch_checkpoint"])
def stages(request: pytest.FixtureRequest, cache: Path) -> Iterator[Stages]:
    path: Path = request.getfixturevalue(request.param)
    checkpoint = Checkpoint.open(path)
    settings = StageSettings(checkpoint=str(path), threads=1)
    repository = prepare_repository(checkpoint, settings, lambda message: None, cache)
    reference = WanPipeline.from_pretrained(path, dtype=torch.float32)
    reference.set_progress_bar_config(disable=True)
    vae = repository / "vae_decoder" / "1"
    ranks = RankGroup(settings)
    yield Stages(
        TokenizerStage(repository / "tokenizer" / "1"),
        Exported(repository / "text_encoder" / "1", 1),
        ranks,
        open_decoder(vae, settings),
        VaeDecoderStage(vae, settings),
        reference,
    )
    ranks.close()


def test_embeddings_equal_diffusers(stages: Stages) -> None:
    tokens = stages.tokens()
    length = stages.tokenizer.info.defaults.max_sequence_length
    with torch.inference_mode():
        expected = stages.reference.encode_prompt(
            PROMPT, NEGATIVE, max_sequence_length=length, device=torch.device("cpu")
        )
    for ours, reference in zip(stages.embeds(tokens).values(), expected, strict=True):
        used = ours.shape[1]
        assert np.abs(ours - reference[:, :used].numpy()).max() < 1e-4
        assert not reference[:, used:].any(), "the reference is zero after the text's end"


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"guidance_scale": 1.0},
        {"height": 48, "width": 32, "num_frames": 1},
        {"num_inference_steps": 1},
    ],
)
def test_latents_equal_diffusers(stages: Stages, values: dict[str, Any]) -> None:
    tokens = stages.tokens(**values)
    assert np.abs(stages.latents(tokens) - stages.diffusers(tokens.request, "latent")).max() < 1e-4


def test_frames_equal_diffusers(stages: Stages) -> None:
    tokens = stages.tokens(num_frames=17)
    latents = stages.latents(tokens)
    frames = np.concatenate(list(stages.decoder.decode(latents)))
    expected = stages.diffusers(tokens.request, "np")[0]
    assert frames.shape == expected.shape == (17, 32, 48, 3)
    assert np.abs(frames - expected).max() < 1e-3
    decoded = stages.vae.run(tokens.request, latents, lambda chunk, total: None)
    assert decoded.frames is not None
    assert np.abs(decoded.frames / 255.0 - expected).max() < 1 / 255


def test_flow_shift_changes_the_schedule(stages: Stages) -> None:
    usual, shifted = (stages.latents(stages.tokens(flow_shift=shift)) for shift in (3.0, 9.0))
    assert np.allclose(usual, stages.latents(stages.tokens()), atol=1e-5), (
        "3 is what the checkpoints say themselves"
    )
    assert np.abs(usual - shifted).max() > 1e-2


def test_the_same_seed_gives_the_same_video_and_another_seed_another(stages: Stages) -> None:
    first, again, other = (stages.latents(stages.tokens(seed=seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert np.abs(first - other).max() > 1e-2


def test_a_stopped_request_leaves_no_state_behind(stages: Stages) -> None:
    class StopError(Exception):
        pass

    calls: list[int] = []

    def before_step(step: int) -> None:
        calls.append(step)
        if step == 2:
            raise StopError

    tokens = stages.tokens()
    with pytest.raises(StopError):
        run_one(stages.ranks, tokens.request, stages.embeds(tokens), before_step)
    assert calls == [0, 1, 2]
    assert np.array_equal(stages.latents(tokens), stages.latents(tokens)), (
        "a stopped request leaves nothing behind"
    )
