"""Ranks apply the LoRAs of each batch: as one rank, merged or added, and without a trace."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import save_file

from pipeline.checkpoint.folder import Checkpoint
from pipeline.errors import GenerationError
from pipeline.families.lora import LoraFile, LoraUse
from pipeline.parallel.layout import Layout
from pipeline.ranks.denoiser import Denoiser
from pipeline.ranks.group import RankGroup, Task, Timeouts
from pipeline.ranks.messages import Setup
from tests.conftest import SHAPES
from tests.loras import names_of, pairs, transformer
from tests.pipeline.ranks.groups import run_one, settings
from tests.pipeline.ranks.test_group_batches import task

TIMEOUTS = Timeouts(startup=120, heartbeat=15, step=60)
A, B = LoraUse(name="a", scale=0.5), LoraUse(name="b", scale=1.0)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[LoraFile, ...]:
    """Two LoRAs of all layers of the bundled transformer."""
    folder, model = tmp_path_factory.mktemp("loras"), transformer(SHAPES)
    for seed, name in enumerate("ab"):
        tensors = pairs(model, names_of(model).values(), seed=seed)
        save_file({k: 0.3 * v for k, v in tensors.items()}, folder / f"{name}.safetensors")
    return tuple(LoraFile(name=name, path=f"{folder}/{name}.safetensors") for name in "ab")


def with_lora(*uses: LoraUse, seed: int = 1, checkpoint: Path = SHAPES) -> Task:
    plain = task(Checkpoint.open(checkpoint), seed)
    request = plain.request.model_copy(update={"lora": uses})
    return Task(request, plain.arrays, plain.before_step)


def denoise(rank: Denoiser, asked: Task) -> np.ndarray:
    assert rank.choose_loras(asked.request) is None
    return rank.run([asked.request], [asked.arrays], lambda batch: None)[0]


def test_one_rank_switches_without_a_trace_and_merges(files: tuple[LoraFile, ...]) -> None:
    def rank(**values: Any) -> Denoiser:
        return Denoiser(Setup(settings=settings(SHAPES, **values), rank=0, store="none"))

    plain, switching = denoise(rank(), with_lora()), rank(loras=files, max_loras=1)
    assert np.array_equal(denoise(switching, with_lora()), plain)
    added = denoise(switching, with_lora(A))
    assert not np.array_equal(denoise(switching, with_lora(B)), added)
    assert np.array_equal(denoise(switching, with_lora()), plain)
    assert np.array_equal(denoise(switching, with_lora(A)), added)
    assert np.abs(added - plain).max() > 0.05

    merged = rank(loras=files, lora=(A,), lora_fixed=True)
    np.testing.assert_allclose(denoise(merged, with_lora(A)), added, rtol=0, atol=1e-4)


@pytest.fixture(scope="module", params=[Layout(ulysses=2), Layout(branches=2)], ids=str)
def pair(request: pytest.FixtureRequest, files: tuple[LoraFile, ...]) -> Iterator[RankGroup]:
    with RankGroup(settings(SHAPES, request.param, loras=files), TIMEOUTS) as group:
        yield group


@pytest.fixture(scope="module")
def one(files: tuple[LoraFile, ...]) -> Iterator[RankGroup]:
    with RankGroup(settings(SHAPES, loras=files), TIMEOUTS) as group:
        yield group


@pytest.mark.ranks
def test_ranks_equal_one_rank(one: RankGroup, pair: RankGroup) -> None:
    made = []
    for uses in ((A,), (), (A, B), (B,)):
        batch = [with_lora(*uses, seed=seed) for seed in (1, 2)]
        for ours, theirs in zip(pair.run_batch(batch), one.run_batch(batch), strict=True):
            assert isinstance(ours, np.ndarray)
            assert isinstance(theirs, np.ndarray)
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)
            made.append(ours)
    assert len({latents.sum().item() for latents in made}) == len(made)


@pytest.mark.ranks
def test_ranks_that_share_weights_merge_before(one: RankGroup, files: tuple[LoraFile, ...]) -> None:
    expected = run_one(one, with_lora(A, B).request, with_lora().arrays)
    fixed = settings(SHAPES, Layout(ulysses=2), loras=files, lora=(A, B), lora_fixed=True)
    with RankGroup(fixed, TIMEOUTS) as group:
        made = run_one(group, with_lora(A, B).request, with_lora().arrays)
    np.testing.assert_allclose(made, expected, rtol=0, atol=1e-4)


@pytest.mark.ranks
def test_a_file_that_is_gone_fails_its_requests_only(
    files: tuple[LoraFile, ...], tmp_path: Path
) -> None:
    gone = LoraFile(name="gone", path=str(tmp_path / "gone.safetensors"))
    both = settings(SHAPES, Layout(ulysses=2), loras=(files[0], gone))
    with RankGroup(both, TIMEOUTS) as group:
        expected = run_one(group, with_lora().request, with_lora().arrays)
        failed = group.run_batch([with_lora(A, LoraUse(name="gone", scale=1.0))] * 2)
        assert all(isinstance(each, GenerationError) for each in failed)
        assert "gone.safetensors is missing" in str(failed[0])
        made = run_one(group, with_lora().request, with_lora().arrays)
        assert np.array_equal(made, expected)
        assert group.starts == 1


@pytest.mark.ranks
def test_both_experts_take_a_lora(build_family: Callable[[str], Path], tmp_path: Path) -> None:
    """Each expert's file changes the video; a change of both is neither's."""
    checkpoint = build_family("wan2.2-t2v")
    for number, name in enumerate(("transformer", "transformer_2")):
        model = transformer(checkpoint, name)
        (tmp_path / name).mkdir()
        tensors = pairs(model, names_of(model).values(), seed=number)
        save_file(tensors, tmp_path / name / "lora.safetensors")
    alone = tmp_path / "alone" / "transformer_2"
    alone.mkdir(parents=True)
    (alone / "lora.safetensors").hardlink_to(tmp_path / "transformer_2" / "lora.safetensors")
    files = (
        LoraFile(name="a", path=str(tmp_path)),
        LoraFile(name="b", path=str(tmp_path / "alone")),
    )
    found = {}
    for layout in (Layout(), Layout(ulysses=2)):
        with RankGroup(settings(checkpoint, layout, loras=files), TIMEOUTS) as group:
            for uses in ((), (A,), (B,)):
                asked = with_lora(*uses, checkpoint=checkpoint)
                made = run_one(group, asked.request, asked.arrays)
                expected = found.setdefault(uses, made)
                np.testing.assert_allclose(made, expected, rtol=0, atol=1e-4)
    assert all(
        np.abs(found[first] - found[second]).max() > 0.01
        for first, second in (((), (A,)), ((), (B,)), ((A,), (B,)))
    )
