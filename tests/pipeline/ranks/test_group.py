"""Groups of real rank processes compute correctly and survive failures."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from pipeline.checkpoint.folder import Checkpoint
from pipeline.errors import CancelledError, GenerationError
from pipeline.families import SamplingParams, VideoRequest
from pipeline.parallel.layout import Layout
from pipeline.ranks.group import RankGroup, Timeouts
from pipeline.ranks.process import RankError, RankFailedError, RankLostError
from tests.conftest import ROOT, SHAPES
from tests.pipeline.ranks.groups import pids, run_one, settings
from tests.waiting import wait_for

INFO = Checkpoint.open(SHAPES).info
TIMEOUTS = Timeouts(startup=120, heartbeat=8, step=60)
pytestmark = pytest.mark.ranks


def request(steps: int = 3, width: int = 32) -> VideoRequest:
    # 5 latent frames of 32 x 32 or 48: 45 tokens and more, which neither 2 nor 4 divides.
    params = SamplingParams(prompt="-", height=48, width=width, num_inference_steps=steps, seed=7)
    return INFO.resolve(params)


def embeds(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((1, 9, INFO.text_dim)).astype(np.float32)


def arrays() -> dict[str, np.ndarray]:
    return {"prompt_embeds": embeds(1), "negative_embeds": embeds(2)}


def run(
    group: RankGroup, before_step: Callable[[int], None] = lambda step: None, **options: int
) -> np.ndarray:
    return run_one(group, request(**options), arrays(), before_step)


@pytest.fixture(scope="module")
def expected() -> np.ndarray:
    with RankGroup(settings(SHAPES), TIMEOUTS) as group:
        peaks: list[int | None] = []
        made = run(group, lambda step: peaks.append(group.peak_bytes))
        leader = psutil.Process(pids(group)[0])
        assert all(peak and peak > leader.memory_info().rss // 2 for peak in peaks)
        assert len(peaks) >= 3
        return made


@pytest.fixture
def group(pair: RankGroup) -> Iterator[RankGroup]:
    """Yield two ranks, then check that they still work and that no other process is left."""
    yield pair
    assert np.isfinite(run(pair)).all()
    assert len(children()) == 2


@pytest.fixture(scope="module")
def pair() -> Iterator[RankGroup]:
    with RankGroup(settings(SHAPES, Layout(ulysses=2)), TIMEOUTS) as group:
        yield group
    assert children() == []


def children() -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process().children()
        if "pipeline.ranks.program" in child.cmdline()
    ]


def test_ulysses_equals_one_rank(group: RankGroup, expected: np.ndarray) -> None:
    assert expected.std() > 0.1
    np.testing.assert_allclose(run(group), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("layout", [Layout(ring=2), Layout(branches=2)])
def test_ring_and_branches_equal_one_rank(layout: Layout, expected: np.ndarray) -> None:
    with RankGroup(settings(SHAPES, layout), TIMEOUTS) as group:
        assert group.alive == 2
        np.testing.assert_allclose(run(group), expected, rtol=0, atol=1e-4)


def test_requests_of_different_shapes_run_sequentially(
    group: RankGroup, expected: np.ndarray
) -> None:
    assert run(group, width=48).shape != expected.shape
    np.testing.assert_allclose(run(group), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_stop_takes_effect_on_all_ranks_before_the_same_step(group: RankGroup, at: int) -> None:
    steps: list[int] = []

    def stop(step: int) -> None:
        steps.append(step)
        if step == at:
            raise CancelledError("cancelled")

    starts = group.starts
    with pytest.raises(CancelledError):
        run(group, stop)
    assert steps == list(range(at + 1))
    assert group.starts == starts, "stopping is no failure"


@pytest.mark.parametrize(
    ("rank", "number", "sentence"),
    [
        (1, signal.SIGKILL, "was killed by SIGKILL"),
        (0, signal.SIGSTOP, "has given no sign of life"),
    ],
)
def test_all_ranks_are_replaced_when_one_dies_or_hangs_in_a_step(
    group: RankGroup, rank: int, number: int, sentence: str
) -> None:
    before = pids(group)

    def hit(step: int) -> None:
        if step == 1:
            os.kill(pids(group)[rank], number)

    with pytest.raises(RankLostError, match=f"^rank {rank} {sentence}"):
        run(group, hit)
    assert not set(before) & set(pids(group))
    assert all(not psutil.pid_exists(pid) for pid in before)


def test_a_rank_that_dies_while_idle_is_replaced_before_the_next_request(
    group: RankGroup, expected: np.ndarray
) -> None:
    starts = group.starts
    os.kill(pids(group)[1], signal.SIGKILL)
    wait_for(lambda: group.starts > starts, 30)
    np.testing.assert_allclose(run(group), expected, rtol=0, atol=1e-5)


def test_latents_that_are_not_finite_fail_only_the_request(group: RankGroup) -> None:
    starts = group.starts
    with pytest.raises(GenerationError, match="latents are not finite after step 1 of 3") as caught:
        run_one(
            group,
            request(),
            {**arrays(), "prompt_embeds": np.full_like(embeds(1), np.nan)},
        )
    assert not isinstance(caught.value, RankError)
    assert group.starts == starts


def test_an_error_of_one_rank_is_reported_and_the_next_request_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected: np.ndarray
) -> None:
    """The error is injected from outside: Python imports ``sitecustomize`` when it starts."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "if 'pipeline.ranks.program' in ' '.join(sys.orig_argv):\n"
        "    from pipeline.parallel.mesh import Mesh\n"
        "    from pipeline.diffusion import samples\n"
        "    noise = samples.initial_noise\n"
        "    def broken(shape, generator):\n"
        "        import torch.distributed as dist\n"
        "        if generator.initial_seed() == 13 and dist.get_rank() == 1:\n"
        "            raise RuntimeError('out of memory, say')\n"
        "        return noise(shape, generator)\n"
        "    samples.initial_noise = broken\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with RankGroup(settings(SHAPES, Layout(ulysses=2)), TIMEOUTS) as group:
        with pytest.raises(
            RankFailedError, match=r"^rank 1: RuntimeError: out of memory, say$"
        ) as caught:
            run_one(group, request().model_copy(update={"seed": 13}), arrays())
        assert "Traceback" in (caught.value.details or "")
        np.testing.assert_allclose(run(group), expected, rtol=0, atol=1e-5)


def test_ranks_ignore_the_environment_of_torchrun(
    monkeypatch: pytest.MonkeyPatch, expected: np.ndarray
) -> None:
    """torch would use the variables of torchrun for its rendezvous; our ranks use a file."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
        monkeypatch.setenv("MASTER_PORT", str(taken.getsockname()[1]))
        monkeypatch.setenv("WORLD_SIZE", "7")
        monkeypatch.setenv("RANK", "5")
        with RankGroup(settings(SHAPES, Layout(ulysses=2)), TIMEOUTS) as group:
            np.testing.assert_allclose(run(group), expected, rtol=0, atol=1e-5)


def test_the_error_states_why_ranks_cannot_start(tmp_path: Path) -> None:
    before = children()
    with pytest.raises(RankError, match=r"rank 0: CheckpointError: .*model_index.json is missing"):
        RankGroup(settings(tmp_path), TIMEOUTS)
    assert children() == before


def test_ranks_that_exceed_the_startup_timeout_are_ended() -> None:
    before = children()
    with pytest.raises(RankError, match=r"^rank 0: still loading after 0 s; "):
        RankGroup(settings(SHAPES), Timeouts(startup=0))
    assert children() == before


def test_a_step_over_its_timeout_fails_the_request_and_replaces_the_ranks() -> None:
    with RankGroup(settings(SHAPES), Timeouts(startup=120, step=0)) as group:
        with pytest.raises(RankLostError, match=r"^the ranks did not finish a step in time$"):
            run(group)
        assert group.starts == 2, "they are replaced"


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_ranks_end_with_their_leader_and_leave_no_file(
    sent: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    script = (
        "import sys, time\n"
        "from pipeline.ranks.group import RankGroup\n"
        "from pipeline.settings import StageSettings\n"
        "settings = StageSettings(checkpoint=sys.argv[1], threads=1, ulysses_degree=2)\n"
        "group = RankGroup(settings)\n"
        "print(*(rank.process.pid for rank in group._ranks), flush=True); time.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(SHAPES)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as leader:
        assert leader.stdout is not None
        pids = [int(pid) for pid in leader.stdout.readline().split()]
        assert len(pids) == 2
        os.kill(pids[0], signal.SIGSTOP)  # also one that cannot notice
        leader.send_signal(sent)
        leader.wait(10)
    wait_for(lambda: not any(psutil.pid_exists(pid) for pid in pids), 30)
    assert list(tmp_path.glob("triton-video*")) == []
