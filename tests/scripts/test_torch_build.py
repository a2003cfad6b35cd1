"""The build of torch that `make setup` installs follows from the GPU and its driver."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT


def build(folder: Path, *, gpu: bool, driver: str = "", chosen: str = "") -> tuple[int, str]:
    devices = folder / "dev"
    devices.mkdir()
    if gpu:
        (devices / "nvidia0").touch()
    smi = folder / "nvidia-smi"
    smi.write_text(f"#!/bin/sh\necho {driver}\n" if driver else "#!/bin/sh\nexit 9\n")
    smi.chmod(0o755)
    done = subprocess.run(
        ["bash", str(ROOT / "scripts/torch_build.sh"), str(devices)],
        env={"PATH": f"{folder}:{os.environ['PATH']}", "TRITON_VIDEO_TORCH": chosen},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, (done.stdout or done.stderr).strip()


@pytest.mark.parametrize(
    ("gpu", "driver", "expected"),
    [
        (False, "580.65.06", "cpu"),
        (True, "580.65.06", "pypi"),
        (True, "570.124.06", "cu126"),
        (True, "", "pypi"),
    ],
)
def test_build_suits_the_gpu_and_its_driver(
    tmp_path: Path, gpu: bool, driver: str, expected: str
) -> None:
    assert build(tmp_path, gpu=gpu, driver=driver) == (0, expected)


def test_variable_overrides_the_choice(tmp_path: Path) -> None:
    assert build(tmp_path, gpu=False, chosen="pypi") == (0, "pypi")


def test_unknown_build_is_refused_by_name(tmp_path: Path) -> None:
    code, text = build(tmp_path, gpu=False, chosen="cu99")
    assert code == 2
    assert text == (
        "TRITON_VIDEO_TORCH: cu99 is not a build of torch; it must be cpu, cu126 or pypi"
    )
