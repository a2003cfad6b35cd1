"""What holds for every image, also for one that no machine of ours can build."""

from __future__ import annotations

import json
import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

from pipeline.system.telemetry import OPT_OUT
from tests.containers.dockerfile import Dockerfile

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FILE = Dockerfile.read(ROOT / "Dockerfile")
IMAGES = ("proxy", "cpu", "gpu")
COPIED = [(stage.name, words) for stage in FILE.stages.values() for words in stage.all("COPY")]
RUNS = [(stage.name, words) for stage in FILE.stages.values() for words in stage.all("RUN")]


def sources(words: str) -> list[str]:
    return [] if words.startswith("--from=") else words.split()[:-1]


def is_sent(source: str) -> bool:
    """Whether .dockerignore lets the file or folder into a build."""
    rules = [
        line
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    sent = True
    for rule in rules:
        pattern = rule.removeprefix("!")
        if fnmatch(source, pattern) or source.startswith(f"{pattern}/"):
            sent = rule.startswith("!")
    return sent


@pytest.mark.parametrize("stage", FILE.stages.values(), ids=lambda stage: stage.name)
def test_build_stage_comes_from_an_argument_or_a_stage(stage):
    argument = re.fullmatch(r"\$\{(\w+)\}", stage.base)
    assert stage.base in FILE.stages or (argument and FILE.arguments[argument[1]])


@pytest.mark.parametrize("image", IMAGES)
def test_image_runs_unprivileged_and_reports_its_health(image):
    assert FILE.every(image, "USER")[0] == "1000:1000"
    assert json.loads(FILE.every(image, "ENTRYPOINT")[0]) == ["triton-video"]
    assert "/readyz" in FILE.every(image, "HEALTHCHECK")[0]
    assert "VOLUME" not in dict(FILE.stages[image].instructions), (
        "nameless volumes outlive their containers"
    )


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_is_labelled_and_its_version_is_the_projects(image):
    (labels,) = FILE.stages[image].all("LABEL")
    names = re.findall(r'org\.opencontainers\.image\.(\w+)="[^"]+"', labels)
    assert names == ["title", "description", "licenses", "version", "revision"]
    assert f"VERSION={PROJECT['version']}" in FILE.stages[image].all("ARG")
    assert f"-t triton-video:{PROJECT['version']}-{image} " in (ROOT / "Dockerfile").read_text()


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_keeps_nothing_of_its_build(image):
    """Neither pip's settings nor a package manager: they stay in stages that are thrown away."""
    chain = FILE.chain(image)
    assert not [words for stage in chain for name, words in stage.instructions if "PIP_" in words]
    assert not [
        words
        for stage in chain
        for words in stage.all("RUN")
        if re.search(r"\b(pip|apt-get|gcc)\b", words)
    ]
    assert not [words for stage in chain for words in stage.all("COPY") if sources(words)]


@pytest.mark.parametrize("image", IMAGES)
def test_packages_are_a_layer_below_the_code(image):
    copies = FILE.stages[image].all("COPY")
    assert [words.split()[1:] for words in copies] == [
        ["/opt/venv", "/opt/venv"],
        ["/opt/project", "/opt/venv"],
    ]
    packages = FILE.stages[copies[0].split()[0].removeprefix("--from=")]
    before = [words for name, words in packages.instructions if name in ("COPY", "RUN")]
    install = next(i for i, words in enumerate(before) if "wanted.txt" in words)
    assert not [words for words in before[:install] if " cli " in f" {words} "]


@pytest.mark.parametrize(("stage", "words"), COPIED)
def test_copied_files_exist_and_are_sent_to_the_builder(stage, words):
    for source in sources(words):
        plain = source.replace("[s]", "s")
        assert is_sent(plain), f"{stage}: .dockerignore keeps {source} back"
        assert (ROOT / plain).exists() or source != plain, f"{stage}: there is no {source}"


@pytest.mark.parametrize("name", [".git", ".venv", "outputs", "secrets/api_keys", "tests", ".env"])
def test_only_needed_files_are_sent_to_the_builder(name):
    assert not is_sent(name)


def test_the_code_in_an_image_is_that_of_the_wheel():
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"][
        "targets"
    ]["wheel"]
    for stage in ("project", "gpu-packages"):
        copied = {source for words in FILE.stages[stage].all("COPY") for source in sources(words)}
        assert set(packages["only-include"]) <= copied


@pytest.mark.parametrize("image", IMAGES)
def test_the_extras_of_an_image_are_declared(image):
    (words,) = FILE.stages["wanted"].all("RUN")
    call = re.search(rf"requirements\.py ([^>]*) >{image}\.txt", words)
    assert call
    extras = re.sub(r"--without \S+", "", call[1]).split()
    assert "proxy" in extras
    assert set(extras) <= PROJECT["optional-dependencies"].keys()
    assert f"--from=wanted /build/{image}.txt wanted.txt" in FILE.stages[f"{image}-packages"].all(
        "COPY"
    )


def test_tensorrt_in_the_image_has_its_librarys_version_and_no_second_library():
    (words,) = [words for words in FILE.stages["gpu-packages"].all("RUN") if "tensorrt" in words]
    assert re.search(r"tensorrt_packages\.py >(\S+) .*pip install .*--no-deps -r \1$", words)
    declared = {name for extras in PROJECT["optional-dependencies"].values() for name in extras}
    assert not [name for name in declared if re.match(r"tensorrt(-cu|[=<>]|$)", name)]


def test_a_failed_installation_fails_the_build():
    assert not [words for _, words in RUNS if re.search(r"\|\| true(?!\))|;", words)]


@pytest.mark.parametrize("newer", ["# syntax", "--mount", "<<", "--chmod", "--link", "--parents"])
def test_the_classic_builder_understands_it(newer):
    assert newer not in (ROOT / "Dockerfile").read_text()


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_reports_to_no_one(image):
    words = {word for line in FILE.every(image, "ENV") for word in line.split()}
    assert {f"{name}={value}" for name, value in OPT_OUT.items()} <= words
