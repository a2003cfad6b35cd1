"""No folder of a user's replaces the project's packages, whose names are common words."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from triton_video import PACKAGES

PROGRAM = Path(sys.executable).with_name("triton-video")
pytestmark = pytest.mark.program


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A folder with a module or a package of each name; each leaves a mark when it is imported."""
    folder = tmp_path / "project"
    for i, name in enumerate(sorted(PACKAGES)):
        file = folder / f"{name}.py" if i % 2 else folder / name / "__init__.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"open({str(tmp_path / 'imported')!r}, 'a').write({name!r})\n")
    return folder


def run(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """``triton-video`` as its users run it, in ``folder`` and with it on ``PYTHONPATH``."""
    env = {**os.environ, "PYTHONPATH": ".", **variables}
    return subprocess.run(
        [str(PROGRAM), *words], cwd=folder, env=env, capture_output=True, text=True, timeout=120
    )


def test_the_command_imports_its_own_packages(hostile: Path, tmp_path: Path) -> None:
    assert run(hostile, "--version").returncode == 0
    listed = run(hostile, "models", TRITON_VIDEO_CACHE=str(tmp_path / "cache"))
    assert "(bundled)" in listed.stdout
    assert "missing" not in listed.stdout, listed.stdout
    assert not (tmp_path / "imported").exists()


@pytest.mark.server
def test_stages_and_ranks_import_their_own_packages(
    hostile: Path, tmp_path: Path, patch_checkpoint: Path, repository: Path, cache: Path
) -> None:
    """`generate` starts a tritonserver, whose stubs import the stages, and a rank of ``dit``."""
    assert repository.is_relative_to(cache), "nothing is exported here"
    words = ("generate", "--prompt", "a red circle", "-q", "--model-path", str(patch_checkpoint))
    made = run(hostile, *words, TRITON_VIDEO_CACHE=str(cache))
    assert made.returncode == 0, made.stderr
    assert (hostile / made.stdout.strip()).is_file()
    assert not (tmp_path / "imported").exists()


def test_a_module_of_the_project_runs_without_the_path(hostile: Path, tmp_path: Path) -> None:
    """The entry point of child processes: ranks and parts of an export."""
    from pipeline.system.own_modules import command

    ended = subprocess.run(
        command("export.part_process"),
        cwd=hostile,
        env={**os.environ, "PYTHONPATH": "."},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "part_process.py" in ended.stderr, ended.stderr
    assert not (tmp_path / "imported").exists()
