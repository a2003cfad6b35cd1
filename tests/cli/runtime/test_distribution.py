"""The errors for packages that tritonserver needs and that are not installed."""

import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from cli.runtime import distribution
from pipeline.errors import ServerError

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch) -> Path:
    """The wheel's ``pytriton/tritonserver`` with the files that are looked for, all of them
    empty.
    """
    root = tmp_path / "pytriton" / "tritonserver"
    names = ["libtriton_python.so", "triton_python_backend_utils.py"]
    stub = f"python_backend_stubs/{VERSION}/triton_python_backend_stub"
    for name in ("bin/tritonserver", *(f"backends/python/{name}" for name in names), stub):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    spec = ModuleSpec("pytriton", None, origin=str(root.parent / "__init__.py"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: spec)
    monkeypatch.setattr(distribution, "find_libpython", lambda: Path("libpython.so"))
    return root


def find_error() -> str:
    with pytest.raises(ServerError) as caught:
        distribution.find_distribution()
    return str(caught.value)


def test_complete_wheel(wheel):
    found = distribution.find_distribution()
    assert found.server == wheel / "bin" / "tritonserver"
    assert found.libraries == wheel.parent.parent / "nvidia_pytriton.libs"
    assert found.backend_files[-1].parent.name == VERSION


def test_no_wheel(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install 'triton-video[embedded,export]'" in find_error()


def test_an_incomplete_wheel(wheel):
    (wheel / "bin" / "tritonserver").unlink()
    assert "bin/tritonserver; reinstall it" in find_error()


def test_no_stub_for_this_python(wheel):
    (wheel / "python_backend_stubs" / VERSION).rename(wheel / "python_backend_stubs" / "3.8")
    assert f"cannot run Python {VERSION} models, only 3.8" in find_error()


def test_nvidias_image(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(distribution, "find_libpython", lambda: Path("libpython.so"))
    assert not distribution.is_there(tmp_path)
    names = (*distribution.PYTHON_BACKEND, distribution.STUB)
    for name in (
        "bin/tritonserver",
        "backends/tensorrt/libtriton_tensorrt.so",
        *(f"backends/python/{n}" for n in names),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert distribution.is_there(tmp_path)
    found = distribution.find_distribution(tmp_path)
    assert found.server == tmp_path / "bin" / "tritonserver"
    assert [path.name for path in found.backend_files] == list(names)
    assert found.gpu_metrics
    assert found.more_backends == (tmp_path / "backends" / "tensorrt",)
    (tmp_path / "backends" / "python" / distribution.STUB).unlink()
    with pytest.raises(ServerError, match="take an image with the python backend"):
        distribution.find_distribution(tmp_path)


def test_no_libpython(monkeypatch, tmp_path):
    monkeypatch.setattr("sysconfig.get_config_var", lambda name: None)
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path))
    monkeypatch.setattr(distribution, "_known_to_loader", lambda name: [])
    with pytest.raises(ServerError, match=rf"install the package libpython{VERSION}"):
        distribution.find_libpython()


def test_libpython_beside_a_relocated_interpreter(monkeypatch, tmp_path):
    library = tmp_path / "lib" / f"libpython{VERSION}.so.1.0"
    library.parent.mkdir()
    library.touch()
    monkeypatch.setattr("sysconfig.get_config_var", lambda name: "/install/lib")
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path))
    assert distribution.find_libpython() == library


def test_libpython_known_to_the_loader(monkeypatch, tmp_path):
    library = tmp_path / f"libpython{VERSION}.so.1.0"
    library.touch()
    table = (
        f"2 libs found\n\tlibpython{VERSION}.so (libc6) => /no\n"
        f"\t{library.name} (libc6,x86-64) => {library}\n"
    )
    monkeypatch.setattr("sysconfig.get_config_var", lambda name: "")
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path / "prefix"))
    monkeypatch.setattr(
        subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 0, stdout=table)
    )
    assert distribution.find_libpython() == library
