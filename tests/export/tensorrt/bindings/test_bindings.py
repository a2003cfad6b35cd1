"""The code calls only what NVIDIA's Python bindings of TensorRT have, in every version.

The bindings are real, from PyPI (``make test`` installs them); TensorRT's libraries, which they
load, are stubs of nine functions.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.export.tensorrt.bindings.objects import Object, fits, signatures_of
from tests.needs import ROOT

INSTALLED = Path(sys.prefix) / "tensorrt"
VERSIONS = ("10.13.3.9", "10.14.1.48", "10.16.1.11", "11.0.0.114", "11.4.0.106")
COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
LIBRARIES = ("nvinfer", "nvinfer_plugin", "nvonnxparser")


@pytest.fixture(scope="module")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if COMPILER is None:
        pytest.skip("no C compiler, which makes the stub libraries")
    path = tmp_path_factory.mktemp("stub") / "stub.so"
    source = Path(__file__).with_name("stub.c")
    subprocess.run([COMPILER, "-shared", "-fPIC", "-o", path, source], check=True)
    return path


@pytest.mark.parametrize("version", VERSIONS)
def test_the_bindings_have_every_name_and_argument_in_use(
    version: str, stub: Path, tmp_path: Path
) -> None:
    assert (INSTALLED / version).is_dir(), "scripts/tensorrt_bindings.sh has not run"
    for name in LIBRARIES:
        shutil.copyfile(stub, tmp_path / f"lib{name}.so.{version.partition('.')[0]}")
    ran = subprocess.run(
        [sys.executable, "-m", "tests.export.tensorrt.bindings.program", str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(INSTALLED / version), "LD_LIBRARY_PATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found["version"].startswith(version)
    assert {
        "set_flag",
        "build_serialized_network",
        "set_device_memory",
        "execute_async_v3",
        "set_optimization_profile_async",
    } <= set(found["calls"])


class Example:
    """A class as pybind11 writes them."""

    def one(self) -> None:
        """one(self: lib.Example, count: int, names: List[str] = <X.A: 0>) -> bool"""

    def two(self) -> None:
        """two(*args, **kwargs)
        Overloaded function.

        1. two(self: lib.Example) -> None

        2. two(self: lib.Example, name: str) -> None
        """

    size = property(lambda self: 1)


def test_an_object_has_the_names_and_the_arguments_of_its_class() -> None:
    thing = Object(Example, one=5)
    assert (thing.one(1), thing.one(1, names=[]), thing.two(), thing.two("x")) == (5, 5, True, True)
    assert thing.calls == ["one", "one", "two", "two"]
    for wrong in (lambda: thing.one(), lambda: thing.one(1, 2, 3), lambda: thing.two(other="x")):
        with pytest.raises(TypeError):
            wrong()
    with pytest.raises(AttributeError, match="three"):
        thing.three()
    with pytest.raises(AttributeError, match=r"Example\.size cannot be set"):
        thing.size = 2
    with pytest.raises(AttributeError, match="three"):
        Object(Example, three=1)


def test_a_signature_is_read_from_a_docstring() -> None:
    assert signatures_of(Example.one) == [{"self": False, "count": False, "names": True}]
    assert signatures_of(Example.two) == [{"self": False}, {"self": False, "name": False}]
    assert not fits({"self": False, "count": False}, 2, {"count": 1}), "given twice"
