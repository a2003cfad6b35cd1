"""Processes that compute wait without spinning and know their CPU quota, unless the user has
other wishes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.ranks import process
from pipeline.system import child_environment as module
from pipeline.system.child_environment import (
    ALLOCATORS,
    SPIN_COUNT,
    WAITING,
    child_environment,
)
from pipeline.system.telemetry import OFFLINE


def test_a_child_spins_shortly_and_is_offline() -> None:
    environment = {"PATH": "/bin"}
    child = child_environment(environment)
    assert child["GOMP_SPINCOUNT"] == SPIN_COUNT
    assert child.items() >= OFFLINE.items()
    assert environment == {"PATH": "/bin"}


@pytest.mark.parametrize("own", [None, "FASTEST_FIRST"])
def test_gpus_are_numbered_as_the_memory_plan_numbers_them(own: str | None) -> None:
    child = child_environment({} if own is None else {"CUDA_DEVICE_ORDER": own})
    assert child["CUDA_DEVICE_ORDER"] == (own or "PCI_BUS_ID")


@pytest.mark.parametrize("name", WAITING)
def test_any_variable_of_the_user_about_waiting_wins(name: str) -> None:
    child = child_environment({name: "5"})
    assert {each: child[each] for each in WAITING if each in child} == {name: "5"}


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({}, {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}),
        ({"PYTORCH_CUDA_ALLOC_CONF": "a:1"}, {"PYTORCH_CUDA_ALLOC_CONF": "a:1"}),
        ({"PYTORCH_ALLOC_CONF": "a:1"}, {"PYTORCH_ALLOC_CONF": "a:1"}),
    ],
)
def test_segments_of_the_allocator_can_grow_unless_the_user_sets_it_up(
    own: dict[str, str], expected: dict[str, str]
) -> None:
    child = child_environment(own)
    assert {name: child[name] for name in ALLOCATORS if name in child} == expected


@pytest.mark.parametrize(
    ("quota", "own", "expected"),
    [(None, {}, None), (1.0, {}, "1"), (1.0, {"OMP_NUM_THREADS": "7"}, "7")],
)
def test_openmp_has_as_many_threads_as_the_quota_has_cpus(
    monkeypatch: pytest.MonkeyPatch, quota: float | None, own: dict[str, str], expected: str | None
) -> None:
    monkeypatch.setattr(module, "cpu_quota", lambda: quota)
    monkeypatch.setattr(module, "available_cpus", lambda: 1)
    assert child_environment(own).get("OMP_NUM_THREADS") == expected


def test_openmp_of_torch_reads_the_spin_count() -> None:
    """GNU's OpenMP prints its settings when it is loaded, which torch does."""
    environment = child_environment(os.environ) | {"OMP_DISPLAY_ENV": "verbose"}
    command = [sys.executable, "-c", "import torch"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert f"GOMP_SPINCOUNT = '{SPIN_COUNT}'" in done.stderr


def test_torch_touches_no_folder_that_other_users_share(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """torch._dynamo, which an export imports, creates its cache at once."""
    monkeypatch.setenv("TRITON_VIDEO_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)  # torch sets it in this process
    shared = tmp_path / "tmp"
    shared.mkdir()
    environment = child_environment(os.environ) | {"TMPDIR": str(shared)}
    subprocess.run([sys.executable, "-c", "import torch._dynamo"], env=environment, check=True)
    assert list(shared.iterdir()) == []
    assert (tmp_path / "cache" / "compiled").is_dir()


def test_a_rank_starts_in_this_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    environments: list[dict[str, str]] = []

    def start(*arguments: object, env: dict[str, str], **options: object) -> None:
        environments.append(env)

    monkeypatch.setattr(process.subprocess, "Popen", start)
    process.RankProcess(0, rendezvous=0).channel.close()
    assert environments == [child_environment(os.environ)]
