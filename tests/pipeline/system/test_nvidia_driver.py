"""The driver's versions come from NVML, and an old driver is named with what helps."""

# ruff: noqa: N802 - NVML's own names

from __future__ import annotations

import importlib.machinery
import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.system.nvidia_driver import Driver, cuda_of_torch, find_driver, too_old, unusable
from tests.pipeline.fake_nvml import FakeNvml

OLD, NEW = Driver("550.54.15", (12, 4)), Driver("580.65.06", (13, 0))


class Nvml(FakeNvml):
    def __init__(self, *, broken: bool = False, silent: bool = False) -> None:
        super().__init__(broken=broken)
        self.silent = silent

    def nvmlSystemGetDriverVersion(self, version: Any, length: Any) -> int:
        assert len(version) == length.value
        version.value = b"550.54.15"
        return 0

    def nvmlSystemGetCudaDriverVersion_v2(self, cuda: Any) -> int:
        cuda._obj.value = 12040
        return int(self.silent)


def test_versions_come_from_nvml() -> None:
    nvml = Nvml()
    assert find_driver(lambda _: nvml) == OLD
    assert nvml.open == 0


@pytest.mark.parametrize("nvml", [Nvml(broken=True), Nvml(silent=True)])
def test_a_driver_that_does_not_answer_is_none(nvml: Nvml) -> None:
    assert find_driver(lambda _: nvml) is None
    assert nvml.open == 0


def test_a_machine_without_a_driver_has_none() -> None:
    def missing(name: str) -> Any:
        raise OSError(name)

    assert find_driver(missing) is None


@pytest.mark.parametrize(
    ("driver", "cuda", "needs"),
    [
        (OLD, "13.0", "driver 580 or newer"),
        (OLD, "14.1", "a newer one"),
        (OLD, "12.8", None),  # within a major version newer minor versions run
        (NEW, "12.6", None),
        (NEW, "13.0", None),
    ],
)
def test_a_driver_of_an_older_major_version_is_too_old(
    driver: Driver, cuda: str, needs: str | None
) -> None:
    reason = too_old(driver, cuda)
    if needs is None:
        assert reason is None
    else:
        assert reason is not None
        assert f"built for CUDA {cuda}, which needs {needs}; update the driver" in reason
        assert reason.endswith("set CUDA_VISIBLE_DEVICES= to run on the CPU")


def test_the_reason_is_the_driver_or_what_torch_says() -> None:
    assert unusable("13.0", OLD) == too_old(OLD, "13.0")
    for driver in (NEW, None):
        assert "torch.cuda.init()" in unusable("13.0", driver)


@pytest.mark.parametrize(
    ("line", "cuda"),
    [
        ("cuda: Optional[str] = None", ""),
        ("cuda: Optional[str] = '13.0'", "13.0"),
        ("cuda = '12.8'", "12.8"),
    ],
)
def test_cuda_of_torch_is_read_from_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, cuda: str
) -> None:
    (tmp_path / "version.py").write_text(f"__version__ = '2.13.0'\n{line}\nhip = None\n")
    spec = importlib.machinery.ModuleSpec("torch", None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    assert cuda_of_torch() == cuda


def test_cuda_of_this_torch_is_its_own() -> None:
    assert cuda_of_torch() == (torch.version.cuda or "")


def test_a_missing_torch_has_no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert cuda_of_torch() is None
