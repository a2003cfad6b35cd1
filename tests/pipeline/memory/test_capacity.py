"""Free memory is read from files like those of Linux and of its containers, and from NVML."""

# ruff: noqa: N802 - NVML's own names

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import ServerError
from pipeline.memory import capacity
from pipeline.memory.capacity import Capacity, gpus_free, host_free
from tests.pipeline.fake_nvml import FakeNvml

MIB = 1 << 20


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    return files(
        tmp_path / "proc",
        {"meminfo": "MemTotal: 9 kB\nMemAvailable:   4096 kB\n", "self/cgroup": "0::/mine\n"},
    )


def files(folder: Path, contents: dict[str, str]) -> Path:
    for name, text in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def test_free_memory_is_the_kernels_estimate_without_a_limit(proc: Path, tmp_path: Path) -> None:
    unlimited = files(
        tmp_path / "cgroup", {"mine/memory.max": "max\n", "mine/memory.current": "1\n"}
    )
    assert host_free(proc, unlimited) == 4 * MIB
    assert host_free(proc, tmp_path / "none") == 4 * MIB
    assert host_free(tmp_path / "none", tmp_path / "none") is None


@pytest.mark.parametrize(
    "contents",
    [
        {"memory.max": "3145728", "memory.current": "2097152"},
        {"mine/memory.max": "3145728", "mine/memory.current": "2097152"},
        {"memory/memory.limit_in_bytes": "3145728", "memory/memory.usage_in_bytes": "2097152"},
        {
            "memory.max": "3145728",
            "memory.current": "3145728",
            "memory.stat": "anon 5\ninactive_file 1048576\nactive_file 7\n",
        },
    ],
    ids=["in a container", "in a group", "first version", "cached files are given back"],
)
def test_free_memory_is_what_the_cgroup_limit_leaves(
    proc: Path, tmp_path: Path, contents: dict[str, str]
) -> None:
    assert host_free(proc, files(tmp_path / "cgroup", contents)) == MIB


def test_the_largest_cgroup_v1_limit_means_no_limit(proc: Path, tmp_path: Path) -> None:
    limits = {
        "memory/memory.limit_in_bytes": str((1 << 63) - 4096),
        "memory/memory.usage_in_bytes": "1",
    }
    assert host_free(proc, files(tmp_path / "cgroup", limits)) == 4 * MIB


class Nvml(FakeNvml):
    """A driver with three GPUs; the second does not report its memory."""

    def nvmlDeviceGetCount_v2(self, count: Any) -> int:
        count._obj.value = 3
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index: Any, handle: Any) -> int:
        handle._obj.value = index.value + 1
        return int(index.value > 2)

    def nvmlDeviceGetHandleByUUID(self, name: bytes, handle: Any) -> int:
        handle._obj.value = 3
        return int(name != b"GPU-c")

    def nvmlDeviceGetMemoryInfo(self, handle: Any, memory: Any) -> int:
        memory._obj.free = 100 * handle.value
        return int(handle.value == 2)


@pytest.mark.parametrize(
    ("visible", "free"),
    [
        (None, (100, None, 300)),
        ("2,0", (300, 100)),
        ("GPU-c", (300,)),
        ("0,7,2", (100,)),
        ("-1", ()),
        ("", ()),
    ],
)
def test_only_visible_gpus_are_measured(visible: str | None, free: tuple[int | None, ...]) -> None:
    nvml = Nvml()
    environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    assert gpus_free(environment, lambda name: nvml) == free
    assert nvml.open == 0


@pytest.mark.parametrize(
    ("visible", "free"), [("0,2", (100, 100)), ("2", (300,)), ("0,1", (None, None)), ("", ())]
)
def test_in_another_order_than_that_of_the_bus_every_gpu_counts_as_the_smallest(
    visible: str, free: tuple[int | None, ...]
) -> None:
    environment = {"CUDA_VISIBLE_DEVICES": visible, "CUDA_DEVICE_ORDER": "FASTEST_FIRST"}
    assert gpus_free(environment, lambda name: Nvml()) == free


def test_a_missing_or_broken_driver_means_no_gpus() -> None:
    def missing(name: str) -> Any:
        raise OSError(name)

    assert gpus_free({}, missing) == ()
    assert gpus_free({}, lambda name: Nvml(broken=True)) == ()


def test_this_machine_has_host_memory() -> None:
    measured = Capacity.measure()
    assert measured.host is not None
    assert measured.host > 100 * MIB
    assert gpus_free({"CUDA_VISIBLE_DEVICES": ""}) == ()


def test_gpu_beside_a_cpu_build_of_torch_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "gpus_free", lambda environment: (8 << 30,))
    monkeypatch.setattr(capacity, "cuda_of_torch", lambda: "")
    with pytest.raises(ServerError, match=r"^this machine has a GPU, and torch is a build for the"):
        Capacity.measure()
    assert Capacity.measure(in_container=True).gpus == (8 << 30,)
    monkeypatch.setattr(capacity, "cuda_of_torch", lambda: "13.0")
    assert Capacity.measure().gpus == (8 << 30,)
