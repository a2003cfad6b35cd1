"""Finds tritonserver, its python backend and its libpython, from nvidia-pytriton or the image."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import ServerError

IMAGE = Path("/opt/tritonserver")  # the folder in NVIDIA's images
PYTHON_BACKEND = ("libtriton_python.so", "triton_python_backend_utils.py")
STUB = "triton_python_backend_stub"


@dataclass(frozen=True)
class Distribution:
    """The files of a tritonserver that runs python models with this interpreter; all exist."""

    server: Path
    caches: Path
    libraries: Path
    libpython: Path
    backend_files: tuple[Path, ...]
    """The files of ``backends/python``, with the stub of this Python version."""
    more_backends: tuple[Path, ...] = ()
    """The folders of other backends; the package has none."""
    gpu_metrics: bool = False
    """Whether to enable GPU metrics, which need libraries that only NVIDIA's image has."""


def find_distribution(image: Path = IMAGE) -> Distribution:
    """Find the files without importing pytriton, which takes seconds.

    Raises ServerError, with the packages to install.
    """
    packages = _packages_folder()
    if packages is None and (image / "bin" / "tritonserver").is_file():
        return _of_image(image)
    if packages is None:
        raise ServerError(
            "the embedded server is not installed: pip install 'triton-video[embedded,export]', "
            "or call a running Triton with --triton-url, or start one in a container with "
            "--runtime docker"
        )
    root = packages / "pytriton" / "tritonserver"
    server = root / "bin" / "tritonserver"
    files = tuple(root / "backends" / "python" / name for name in PYTHON_BACKEND)
    for path in (server, *files):
        if not path.is_file():
            raise ServerError(
                f"the installed nvidia-pytriton has no {path}; "
                "reinstall it: pip install nvidia-pytriton"
            )
    return Distribution(
        server=server,
        caches=root / "caches",
        libraries=packages / "nvidia_pytriton.libs",
        libpython=find_libpython(),
        backend_files=(*files, _find_stub(root)),
    )


def find_libpython() -> Path:
    """Return the shared libpython that the stub links to. Raises ServerError if there is none."""
    name = f"libpython{_python_version()}.so.1.0"
    # The interpreter's own build comes first: a libpython of another micro version breaks
    # multiprocessing in the stub. LIBDIR is wrong in relocated builds (uv's), where the folder
    # beside the interpreter is right.
    folders = [sysconfig.get_config_var("LIBDIR") or "", f"{sys.base_prefix}/lib"]
    beside = [Path(folder) / name for folder in folders if folder]
    for path in (*beside, *_known_to_loader(name)):
        if path.is_file():
            return path
    raise ServerError(
        f"tritonserver needs {name}, and this Python ({sys.executable}) has none: on Debian and "
        f"Ubuntu install the package libpython{_python_version()}, otherwise use a Python built "
        "with --enable-shared"
    )


def is_there(image: Path = IMAGE) -> bool:
    """Return whether this machine has a tritonserver; some of its files may be missing."""
    return _packages_folder() is not None or (image / "bin" / "tritonserver").is_file()


def _packages_folder() -> Path | None:
    spec = importlib.util.find_spec("pytriton")
    return None if spec is None or spec.origin is None else Path(spec.origin).parent.parent


def _of_image(root: Path) -> Distribution:
    """Return the files of NVIDIA's image, whose stub is for the Python of its distribution."""
    backends = root / "backends"
    files = tuple(backends / "python" / name for name in (*PYTHON_BACKEND, STUB))
    for path in files:
        if not path.is_file():
            raise ServerError(
                f"the Triton in {root} has no {path}: take an image with the python backend"
            )
    return Distribution(
        server=root / "bin" / "tritonserver",
        caches=root / "caches",
        libraries=root / "lib",
        libpython=find_libpython(),
        backend_files=files,
        gpu_metrics=True,
        more_backends=tuple(
            sorted(path for path in backends.iterdir() if path.is_dir() and path.name != "python")
        ),
    )


def _find_stub(root: Path) -> Path:
    stubs = root / "python_backend_stubs"
    stub = stubs / _python_version() / STUB
    if not stub.is_file():
        known = ", ".join(
            sorted((path.name for path in stubs.glob("3.*")), key=lambda name: int(name[2:]))
        )
        raise ServerError(
            f"the installed nvidia-pytriton cannot run Python {_python_version()} models, only "
            f"{known or 'none'}: use one of these Pythons"
        )
    return stub


def _python_version() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _known_to_loader(name: str) -> list[Path]:
    # /sbin is not on the PATH of every user.
    for command in ("ldconfig", "/sbin/ldconfig"):
        try:
            cache = subprocess.run(
                [command, "-p"], capture_output=True, text=True, check=True
            ).stdout
        except (OSError, subprocess.CalledProcessError):
            continue
        entries = (line.partition(" => ") for line in cache.splitlines())
        return [Path(path.strip()) for entry, _, path in entries if entry.split()[:1] == [name]]
    return []
