"""A rank never runs on the CPU because torch cannot use a GPU that is there."""

from __future__ import annotations

import pytest
import torch

from pipeline.errors import ServerError
from pipeline.ranks import rendezvous
from pipeline.system.nvidia_driver import Driver


def machine(monkeypatch: pytest.MonkeyPatch, cuda: str | None, gpus: int) -> None:
    """Pretend a torch built for ``cuda``, and a driver that shows ``gpus`` GPUs."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(rendezvous, "gpus_free", lambda environment: (1,) * gpus)
    monkeypatch.setattr(rendezvous, "find_driver", lambda: Driver("550.54.15", (12, 4)))


def test_gpu_that_torch_cannot_use_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, "13.0", 2)
    with pytest.raises(ServerError, match=r"^GPU 1: the driver 550\.54\.15 is too old: torch is "):
        rendezvous.device_of(1)


@pytest.mark.parametrize(("cuda", "gpus"), [("13.0", 0), (None, 2), (None, 0)])
def test_rank_runs_on_the_cpu_without_gpus_or_with_a_torch_for_the_cpu(
    monkeypatch: pytest.MonkeyPatch, cuda: str | None, gpus: int
) -> None:
    machine(monkeypatch, cuda, gpus)
    assert rendezvous.device_of(1) == torch.device("cpu")
