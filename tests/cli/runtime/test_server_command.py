"""A tritonserver whose models need no GPU gets none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cli.runtime.distribution import Distribution
from cli.runtime.endpoints import Sockets
from cli.runtime.server_command import arguments, environment, needs_no_gpu

CPU = "instance_group {\n  kind: KIND_CPU\n}\n"
ENSEMBLE = 'platform: "ensemble"\n'
GPU = "instance_group {\n  kind: KIND_GPU\n  gpus: 0\n}\n"
DISTRIBUTION = Distribution(
    server=Path("/t/tritonserver"),
    caches=Path("/t/caches"),
    libraries=Path("/t/libs"),
    libpython=Path("/t/libpython3.so"),
    backend_files=(),
)


@pytest.fixture
def repository(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    for number, config in enumerate(request.param):
        folder = tmp_path / f"model{number}"
        folder.mkdir()
        (folder / "config.pbtxt").write_text(config)
    return tmp_path


def command(repository: Path) -> list[str]:
    return arguments(
        DISTRIBUTION,
        repository=repository,
        loaded_from=Path("/w/repository"),
        backends=Path("/w/backends"),
        endpoint=Sockets(Path("/w/sockets")),
        shm_prefix="x-",
        models=2,
        cache_bytes=1,
        gpus=2,
    )


def variables(repository: Path, *, gpu_metrics: bool = False) -> dict[str, str]:
    return environment(
        replace(DISTRIBUTION, gpu_metrics=gpu_metrics),
        repository=repository,
        libpython_folder=Path("/w/lib"),
        inherited={"CUDA_VISIBLE_DEVICES": "1", "PATH": "/bin"},
    )


@pytest.mark.parametrize("repository", [[CPU, CPU, ENSEMBLE]], indirect=True)
def test_server_of_python_stages_uses_no_gpu(repository: Path) -> None:
    assert needs_no_gpu(repository)
    flags = command(repository)
    assert "--cuda-memory-pool-byte-size=0:0" in flags
    assert "--cuda-memory-pool-byte-size=1:0" in flags
    assert "--enable-peer-access=false" in flags
    assert "--pinned-memory-pool-byte-size=0" in flags
    assert "--model-repository=/w/repository" in flags
    assert variables(repository)["CUDA_VISIBLE_DEVICES"] == ""
    assert variables(repository)["TRITON_VIDEO_STAGE_DEVICES"] == "1"


@pytest.mark.parametrize("repository", [[CPU, ENSEMBLE]], indirect=True)
def test_server_with_metrics_of_gpus_sees_them(repository: Path) -> None:
    seen = variables(repository, gpu_metrics=True)
    assert seen["CUDA_VISIBLE_DEVICES"] == "1"
    assert "TRITON_VIDEO_STAGE_DEVICES" not in seen


@pytest.mark.parametrize("repository", [[CPU, GPU], ["backend: 'x'", CPU]], indirect=True)
def test_server_of_other_models_keeps_its_gpus(repository: Path) -> None:
    assert not needs_no_gpu(repository)
    assert not any("pool" in flag or "peer" in flag for flag in command(repository))
    assert variables(repository)["CUDA_VISIBLE_DEVICES"] == "1"
