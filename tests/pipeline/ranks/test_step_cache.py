"""Videos made with the step cache match diffusers' MagCache, on every family and rank layout."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.hooks.mag_cache import MagCacheConfig

from pipeline.checkpoint.folder import Checkpoint
from pipeline.diffusion.schedulers import scheduler_for, steps_of_experts
from pipeline.families import VideoRequest
from pipeline.families.hunyuan import TEMPLATE_TOKENS
from pipeline.families.step_cache.table import StepCacheTable
from pipeline.parallel.layout import Layout
from pipeline.ranks import denoiser
from pipeline.ranks.denoiser import Denoiser
from pipeline.ranks.group import RankGroup, Task
from pipeline.ranks.messages import Setup
from pipeline.settings import StageSettings
from tests.diffusers_call import call_diffusers
from tests.needs import exhaustive
from tests.pipeline.ranks.groups import ALONE, run_one, settings, single_rank
from tests.pipeline.ranks.test_families import (
    PROMPT,
    Conditions,
    close,
    load,
    request_for,
    texts_of,
    wan_texts,
)

STEPS, THRESHOLD = 14, 0.07


def table_of(request: VideoRequest, path: Path) -> StepCacheTable:
    """Return a table as long as the schedule, so that no ratio is interpolated."""
    checkpoint = Checkpoint.open(path)
    phases = steps_of_experts(checkpoint, scheduler_for(checkpoint, request))
    draw = np.random.default_rng(5)
    ratios = tuple((tuple(draw.uniform(0.97, 1.02, max(1, steps)).tolist()),) for steps in phases)
    return StepCacheTable(ratios=ratios)


def cached(path: Path, table: StepCacheTable, layout: Layout = ALONE) -> StageSettings:
    option = f"threshold={THRESHOLD}"
    return settings(path, layout, step_cache=option, step_cache_table=table)


def enable(pipeline: Any, table: StepCacheTable) -> None:
    models = [pipeline.transformer, getattr(pipeline, "transformer_2", None)]
    for model, (ratios,) in zip(models, table.ratios, strict=False):
        model.enable_cache(
            MagCacheConfig(
                threshold=THRESHOLD, num_inference_steps=len(ratios), mag_ratios=list(ratios)
            )
        )


class Passes:
    """A single rank that counts the calls of its first block."""

    def __init__(self, stage: StageSettings) -> None:
        self.rank, self.calls = Denoiser(Setup(settings=stage, rank=0, store="none")), 0
        for model in self.rank._experts.models:
            blocks = getattr(model, "blocks", None) or model.transformer_blocks
            blocks[1].register_forward_hook(self._count)

    def _count(self, *_: Any) -> None:
        self.calls += 1

    def run(self, requests: Sequence[VideoRequest], conditions: Conditions) -> list[np.ndarray]:
        self.calls = 0
        arrays = [conditions] * len(requests)
        return list(self.rank.run(requests, arrays, lambda batch: None).values())


@pytest.mark.parametrize("branches", ["batched", "sequential"])
@pytest.mark.parametrize("family", ["wan2.1-t2v", "wan2.2-t2v", "wan2.2-ti2v"])
def test_latents_equal_those_of_diffusers_mag_cache(
    build_family: Callable[[str], Path],
    family: str,
    branches: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = build_family(family)
    pipeline, request = load(path), request_for(path, num_inference_steps=STEPS)
    conditions, table = wan_texts(pipeline, path), table_of(request, path)
    exact = call_diffusers(pipeline, request, "latent", **texts_of(conditions))
    enable(pipeline, table)
    theirs = call_diffusers(pipeline, request, "latent", **texts_of(conditions))
    assert np.abs(theirs - exact).max() > 1e-2  # the cache changes something
    if branches == "sequential":
        monkeypatch.setattr(denoiser, "BATCHED_GUIDANCE_TOKENS", 0)
    ours = Passes(cached(path, table))
    (latents,) = ours.run([request], conditions)
    close(latents, theirs)
    computed = STEPS - len(
        table.reused_steps([len(ratios[0]) for ratios in table.ratios], THRESHOLD)
    )
    assert computed < STEPS
    assert ours.calls == computed * (2 if branches == "sequential" else 1)


def test_hunyuan_video_latents_equal_those_of_diffusers_mag_cache(
    build_family: Callable[[str], Path],
) -> None:
    path = build_family("hunyuan-video")
    pipeline, request = load(path), request_for(path, num_inference_steps=STEPS)
    with torch.no_grad():
        text, pooled, mask = pipeline.encode_prompt(PROMPT, max_sequence_length=20)
    table = table_of(request, path)
    enable(pipeline, table)
    given = {
        "prompt_embeds": text,
        "pooled_prompt_embeds": pooled,
        "prompt_attention_mask": mask,
    }
    theirs = call_diffusers(pipeline, request, "latent", **given)
    template = torch.zeros(1, TEMPLATE_TOKENS, text.shape[2])  # whose embeddings are cut off
    embeds = torch.cat((template, text[:, : int(mask.sum())]), dim=1)
    conditions = {"prompt_embeds": embeds.numpy(), "pooled_embeds": pooled.numpy()}
    ours = Passes(cached(path, table))
    (latents,) = ours.run([request], conditions)
    assert ours.calls < STEPS
    close(latents, theirs)


def test_samples_of_a_batch_keep_their_own_schedules(build_family: Callable[[str], Path]) -> None:
    path = build_family("wan2.1-t2v")
    conditions = wan_texts(load(path), path)
    requests = [
        request_for(path, num_inference_steps=STEPS).model_copy(
            update={"seed": seed, "step_cache": level}
        )
        for seed, level in enumerate(("off", "2x", "1.5x", "2x", None))
    ]
    ours = Passes(cached(path, table_of(requests[0], path)))
    alone = [ours.run([request], conditions)[0] for request in requests]
    assert np.abs(alone[1] - ours.run([requests[1].model_copy(update={"step_cache": "off"})],
                                      conditions)[0]).max() > 1e-2  # fmt: skip
    for single, together in zip(alone, ours.run(requests, conditions), strict=True):
        np.testing.assert_allclose(together, single, rtol=0, atol=1e-4)


@pytest.mark.ranks
@pytest.mark.parametrize(
    ("family", "layout"),
    [
        ("wan2.1-t2v", Layout(ulysses=2)),
        ("wan2.2-t2v", Layout(branches=2)),
        exhaustive("wan2.2-ti2v", Layout(ulysses=2)),
        exhaustive("wan2.2-t2v", Layout(ring=2)),
        exhaustive("wan2.1-t2v", Layout(ulysses=2, branches=2)),
    ],
    ids=str,
)
def test_two_ranks_reuse_the_same_steps_as_one(
    build_family: Callable[[str], Path], family: str, layout: Layout
) -> None:
    path = build_family(family)
    request = request_for(path, num_inference_steps=STEPS)
    conditions, table = wan_texts(load(path), path), table_of(request, path)
    reused: list[int] = []
    with RankGroup(cached(path, table, layout)) as group:
        task = Task(request, conditions, lambda step: None, reused.append)
        (latents,) = group.run_batch([task])
        exact = run_one(group, request.model_copy(update={"step_cache": "off"}), conditions)
    assert isinstance(latents, np.ndarray)
    (alone,) = Passes(cached(path, table)).run([request], conditions)
    close(latents, alone)
    assert np.abs(latents - exact).max() > 1e-2
    assert reused == sorted(
        table.reused_steps([len(ratios[0]) for ratios in table.ratios], THRESHOLD)
    )


@pytest.mark.parametrize("family", ["wan2.1-t2v", "wan2.2-t2v"])
def test_measured_ratios_are_those_of_diffusers_calibration(
    build_family: Callable[[str], Path], family: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = build_family(family)
    pipeline, request = load(path), request_for(path, num_inference_steps=STEPS)
    checkpoint, conditions = Checkpoint.open(path), wan_texts(pipeline, path)
    phases = steps_of_experts(checkpoint, scheduler_for(checkpoint, request))
    models = [pipeline.transformer, getattr(pipeline, "transformer_2", None)]
    for model, steps in zip(models, phases, strict=False):
        model.enable_cache(MagCacheConfig(num_inference_steps=steps, calibrate=True))
    capsys.readouterr()
    call_diffusers(pipeline, request, "latent", **texts_of(conditions))
    printed = re.findall(r"^\[[-0-9., e]+\]$", capsys.readouterr().out, re.MULTILINE)
    theirs = [json.loads(line) for line in printed]
    ratios: list[list[list[float]]] = []
    Denoiser(single_rank(path)).run([request], [conditions], lambda batch: None, ratios)
    assert [len(branch) for expert in ratios for branch in expert] == [
        steps for steps in phases for _ in range(2)
    ]
    for ours, expected in zip((each for expert in ratios for each in expert), theirs, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-4)


@pytest.mark.ranks
@pytest.mark.parametrize("layout", [Layout(), exhaustive(Layout(ulysses=2))], ids=str)
def test_group_returns_the_measured_ratios(
    build_family: Callable[[str], Path], layout: Layout
) -> None:
    path = build_family("wan2.2-t2v")
    request = request_for(path, num_inference_steps=6)
    conditions = wan_texts(load(path), path)
    alone: list[list[list[float]]] = []
    Denoiser(single_rank(path)).run([request], [conditions], lambda batch: None, alone)
    with RankGroup(settings(path, layout)) as group:
        found = group.measure(Task(request, conditions, lambda step: None))
    for ours, expected in zip(found, alone, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=0, atol=0.3 if layout.ranks > 1 else 1e-5)
