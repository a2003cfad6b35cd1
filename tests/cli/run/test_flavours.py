"""A flavour that a machine cannot run is refused before anything is downloaded or exported."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cli.params.groups import StartGroup
from cli.params.stage_group import StageGroup
from cli.run.choice import choose_backend
from cli.run.container_backend import ContainerBackend
from cli.run.flavours import require_flavour
from cli.runtime import distribution
from export.tensorrt import building
from export.tensorrt.targets import gpu_target
from pipeline.errors import InputError

without_gpu = pytest.mark.skipif(gpu_target() is not None, reason="this machine has a GPU")


@pytest.fixture
def nvidia_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine has NVIDIA's Triton, with all backends."""
    found = replace(
        distribution.find_distribution(),
        more_backends=(Path("/opt/backends/onnxruntime"), Path("/opt/backends/tensorrt")),
    )
    monkeypatch.setattr(distribution, "find_distribution", lambda: found)


def test_the_embedded_triton_runs_the_flavour_python_only() -> None:
    require_flavour("python")
    with pytest.raises(
        InputError,
        match=r"^flavour: onnxruntime needs a backend .* choose python, or run the image",
    ):
        require_flavour("onnxruntime")


@pytest.mark.usefixtures("nvidia_image")
def test_the_backends_of_nvidias_triton_can_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    require_flavour("onnxruntime")
    monkeypatch.setattr(building, "gpu_target", lambda: "sm90")
    monkeypatch.setattr(building, "is_installed", lambda library: True)
    require_flavour("tensorrt")


@without_gpu
@pytest.mark.usefixtures("nvidia_image")
def test_tensorrt_needs_a_gpu() -> None:
    with pytest.raises(InputError, match=r"^flavour: tensorrt builds on the GPU .* has none"):
        require_flavour("tensorrt")


@pytest.mark.parametrize(
    ("flavour", "gpus", "image", "sentence"),
    [
        ("tensorrt", False, None, "tensorrt builds on the GPU that serves"),
        ("onnxruntime", False, None, "onnxruntime needs a backend that triton-video:.*-cpu does"),
        ("onnxruntime", False, "my:image", None),
        ("onnxruntime", True, None, None),
        ("tensorrt", True, None, None),
        ("python", False, None, None),
    ],
)
def test_the_flavours_of_a_container_depend_on_image_and_gpu(
    flavour, gpus, image, sentence, monkeypatch, tmp_path
) -> None:
    docker = tmp_path / "docker"
    docker.write_text("#!/bin/sh\nexit 0\n")
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("cli.run.container_backend.has_gpus", lambda: gpus)
    backend = choose_backend(StartGroup(runtime="docker", image=image))
    assert isinstance(backend, ContainerBackend)
    if sentence is None:
        backend.require_flavour(flavour)
        return
    with pytest.raises(InputError, match=sentence):
        backend.script(StartGroup(), StageGroup(flavour=flavour))


@without_gpu
def test_generate_names_the_flavour_that_it_cannot_run(call) -> None:
    refused = call("--flavour", "tensorrt")
    assert refused.code == 2
    assert refused.errors == [
        "flavour: tensorrt builds on the GPU that serves, and this machine has none; choose python"
    ]


def test_generate_passes_the_flavour_to_the_stages(call, backend, monkeypatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(type(backend), "require_flavour", lambda _, flavour: asked.append(flavour))
    assert call("--flavour", "onnxruntime").code == 0
    assert (asked, backend.settings.flavour) == (["onnxruntime"], "onnxruntime")
