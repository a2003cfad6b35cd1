"""Ranks that are forks of one process compute what ranks of separate interpreters compute, and are
supervised like them.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipeline.checkpoint.folder import Checkpoint
from pipeline.families import SamplingParams
from pipeline.parallel.layout import Layout
from pipeline.ranks.group import RankGroup
from pipeline.ranks.process import RankLostError
from pipeline.system.forks import VARIABLE
from pipeline.system.own_modules import FOLDER, command
from tests.conftest import SHAPES
from tests.pipeline.ranks.groups import pids, run_one, settings
from tests.waiting import wait_for

pytestmark = pytest.mark.ranks


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "forks"
    with subprocess.Popen(
        command("pipeline.system.fork_server", str(path), "pipeline.ranks.denoiser"), cwd=FOLDER
    ) as process:
        wait_for(path.exists, 30)
        yield path
        process.kill()


def run(group: RankGroup) -> np.ndarray:
    info = Checkpoint.open(SHAPES).info
    params = SamplingParams(prompt="-", height=48, width=32, num_inference_steps=2, seed=7)
    embeds = np.random.default_rng(1).standard_normal((1, 9, info.text_dim)).astype(np.float32)
    arrays = {"prompt_embeds": embeds, "negative_embeds": -embeds}
    return run_one(group, info.resolve(params), arrays)


def test_forked_ranks_make_the_same_latents_and_are_replaced(
    server: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RankGroup(settings(SHAPES, Layout(ulysses=2))) as separate:
        expected = run(separate)
    monkeypatch.setenv(VARIABLE, str(server))
    with RankGroup(settings(SHAPES, Layout(ulysses=2))) as group:
        np.testing.assert_array_equal(run(group), expected)
        first = pids(group)
        os.kill(first[1], signal.SIGKILL)
        with pytest.raises(RankLostError, match="rank 1 was killed by SIGKILL"):
            run(group)
        np.testing.assert_array_equal(run(group), expected)
        assert not set(first) & set(pids(group))


def test_a_fork_server_that_has_ended_is_an_error_of_the_rank(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "none"))
    with pytest.raises(RankLostError, match=r"rank 0 cannot be started: .*No such file"):
        RankGroup(settings(SHAPES))
