"""What pyproject.toml declares, constraints.txt pins: all of it, exactly, and torch only where
it belongs.
"""

from __future__ import annotations

import importlib.metadata
import json
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def pins() -> dict[str, str]:
    """The lines of constraints.txt as name -> version; any other kind of line is an error."""
    lines = (
        line.split("#")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines()
    )
    pairs = (line.split("==") for line in lines if line)
    return {canonicalize_name(name): version for name, version in pairs}


def declared(extra: str | None) -> list[Requirement]:
    """What installing the project with ``extra`` (or with none) asks for, self-references
    resolved.
    """
    found = [Requirement(text) for text in PROJECT["dependencies"]]
    queue = [extra] if extra else []
    while queue:
        for requirement in map(Requirement, EXTRAS[queue.pop()]):
            if requirement.name == PROJECT["name"]:
                queue.extend(requirement.extras)
            else:
                found.append(requirement)
    return found


def installed_closure(requirements: list[Requirement]) -> Iterator[Requirement]:
    """``requirements`` and all that they need in turn, read from the metadata of what is
    installed.
    """
    queue, seen = list(requirements), set()
    while queue:
        requirement = queue.pop()
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        yield requirement
        for text in importlib.metadata.requires(requirement.name) or ():
            needed = Requirement(text)
            extras = requirement.extras or {""}
            if needed.marker is None or any(
                needed.marker.evaluate({"extra": extra}) for extra in extras
            ):
                queue.append(needed)


def names(extra: str | None) -> set[str]:
    return {
        canonicalize_name(requirement.name) for requirement in installed_closure(declared(extra))
    }


@pytest.mark.parametrize("extra", [None, *EXTRAS])
def test_constraints_cover_everything_an_extra_installs(extra):
    assert names(extra) - pins().keys() == set()


@pytest.mark.parametrize("extra", [None, *EXTRAS])
def test_pins_satisfy_the_declared_ranges(extra):
    versions = pins()
    broken = [
        f"{requirement} is pinned to {versions[canonicalize_name(requirement.name)]}"
        for requirement in declared(extra)
        if versions[canonicalize_name(requirement.name)] not in requirement.specifier
    ]
    assert not broken


def test_constraints_name_versions_and_no_places():
    assert all(
        str(Version(version)) and Version(version).local is None for version in pins().values()
    )


def test_the_lock_of_the_clients_for_node_names_hashes_and_no_places():
    lock = json.loads((ROOT / "tests/e2e/clients/packages/package-lock.json").read_text())
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert packages
    assert all(
        "integrity" in package and "resolved" not in package for package in packages.values()
    )


@pytest.mark.parametrize("extra", [None, "proxy"])
def test_torch_stays_out_of_the_core_and_the_proxy(extra):
    assert not names(extra) & {
        "torch",
        "diffusers",
        "transformers",
        "onnxruntime",
        "nvidia-pytriton",
    }
