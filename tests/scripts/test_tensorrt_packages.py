"""The image gpu installs TensorRT's Python API in the version of the image's own library."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts import tensorrt_packages


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """The root of an image with TensorRT 10.13.3, as its Debian packages lay it out."""
    folder = tmp_path / "usr/lib/x86_64-linux-gnu"
    folder.mkdir(parents=True)
    (folder / "libnvinfer.so.10.13.3").touch()
    (folder / "libnvinfer.so.10").symlink_to("libnvinfer.so.10.13.3")
    (folder / "libnvinfer_plugin.so.10.9.0").touch()
    return tmp_path


def test_the_version_is_that_of_the_library(image: Path, capsys) -> None:
    assert tensorrt_packages.main(image, {"TRT_VERSION": "11.4.0.106"}) == 0
    assert capsys.readouterr().out.splitlines() == [
        "tensorrt-cu13==10.13.3.*",
        "tensorrt-cu13-bindings==10.13.3.*",
        "tensorrt==10.13.3.*",
    ]


def test_the_packages_are_those_of_the_images_cuda(image: Path, capsys) -> None:
    assert tensorrt_packages.main(image, {"CUDA_VERSION": "12.6.3.004"}) == 0
    assert capsys.readouterr().out.startswith("tensorrt-cu12==10.13.3.*\ntensorrt-cu12-bindings==")


@pytest.mark.parametrize("text", ["11.4.0.106", "11.4.0.106+cuda13.1", "11.4.0"])
def test_without_a_library_file_the_variable_of_the_image_is_used(
    text: str, tmp_path: Path
) -> None:
    assert tensorrt_packages.library_version(tmp_path, {"TRT_VERSION": text}) == "11.4.0"


def test_without_tensorrt_the_build_stops(tmp_path: Path, capsys) -> None:
    assert tensorrt_packages.main(tmp_path, {}) == 1
    assert capsys.readouterr().err.startswith(
        "no TensorRT here: neither libnvinfer.so.X.Y.Z in /usr"
    )
