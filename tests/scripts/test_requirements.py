"""What an image installs is what pyproject.toml declares for its extras."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from scripts import requirements

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_projects_own_and_those_of_the_extras_once_each():
    project = {
        "dependencies": ["a>=1", "b"],
        "optional-dependencies": {"x": ["c[y]<2", "b"], "z": ["d"]},
    }
    assert list(requirements.requirements(project, ["x"])) == ["a>=1", "b", "c[y]<2"]
    assert list(requirements.requirements(project, ["x", "z"], ["c", "a"])) == ["b", "d"]
    with pytest.raises(KeyError, match="missing"):
        requirements.requirements(project, ["missing"])


def test_it_prints_them(capsys):
    project = str(ROOT / "pyproject.toml")
    assert (
        requirements.main(
            ["--project", project, "proxy", "embedded", "--without", "nvidia-pytriton"]
        )
        == 0
    )
    lines = capsys.readouterr().out.splitlines()
    left_out = [line for line in PROJECT["optional-dependencies"]["embedded"] if line not in lines]
    assert [line.partition(">")[0] for line in left_out] == ["nvidia-pytriton"]
