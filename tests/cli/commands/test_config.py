"""``config show``: every value of a command, and its source."""

from __future__ import annotations

import json
import os

import pytest

from cli.main import run
from cli.params.commands import (
    ExportParams,
    GenerateParams,
    ServeParams,
    TritonParams,
    WorkerParams,
)
from cli.params.options import Kind, parameters_of


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("TRITON_VIDEO_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def show(capsys):
    """The values that ``config show NAME`` tells, by key: (value, from)."""

    def show(name: str, *arguments: str):
        assert run(["config", "show", name, "--json", *map(str, arguments)]) == 0
        shown = json.loads(capsys.readouterr().out)
        assert shown["command"] == name
        return {key: (each["value"], each["from"]) for key, each in shown["values"].items()}

    return show


def test_each_value_has_its_source(show, checkpoint, tmp_path, monkeypatch):
    (tmp_path / "c.yaml").write_text(
        "prompt: p\n\nfps: 24\nvae_config:\n  tile_sample_min_width: 64\n"
    )
    monkeypatch.setenv("TRITON_VIDEO_WIDTH", "80")
    shown = show("generate", "--config", "c.yaml", "--seed=3", "--model-path", checkpoint, "-q")
    assert shown["prompt"] == ("p", "c.yaml, line 1")
    assert shown["fps"] == (24, "c.yaml, line 3")
    assert shown["vae_config.tile_sample_min_width"] == (64, "c.yaml, line 5")
    assert shown["width"] == (80, "TRITON_VIDEO_WIDTH")
    assert shown["seed"] == (3, "--seed")
    assert shown["quiet"] == (True, "--quiet")
    assert shown["num_frames"] == (17, "the model")
    assert shown["vae_engine"] == ("auto", "default")
    assert shown["vae_config.tile_sample_min_height"] == (256, "default")


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("generate", GenerateParams),
        ("serve", ServeParams),
        ("worker", WorkerParams),
        ("export", ExportParams),
        ("triton", TritonParams),
    ],
)
def test_every_parameter_of_every_command(show, name, groups):
    wanted = [
        key
        for key, parameter in parameters_of(groups).items()
        if parameter.kind is not Kind.MAPPING
    ]
    assert list(show(name)) == wanted


def test_missing_required_value_is_shown(show):
    assert show("generate")["prompt"] == (None, "required, not given")
    assert show("worker")["triton_url"] == (None, "required, not given")
    assert show("generate")["seed"] == (None, "random")


def test_values_of_a_running_triton_or_remote_model(show):
    assert show("generate", "--triton-url", "h:1")["height"] == (None, "the running Triton's")
    assert show("generate", "--model-path", "Org/Name")["height"] == (None, "the model")


def test_no_password_is_shown(show, monkeypatch):
    monkeypatch.setenv("TRITON_VIDEO_DATABASE_URL", "postgresql://u:secret@h/d")
    assert show("serve")["database_url"] == ("(not shown)", "TRITON_VIDEO_DATABASE_URL")


def test_table(capsys):
    assert run(["config", "show", "serve", "--port", "80"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["key", "value", "from"]
    assert ["port", "80", "--port"] in lines


def test_errors_are_those_of_the_command(capsys):
    assert run(["config", "show", "serve", "--port", "x", "--prot=1"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "triton-video: no such option --prot; did you mean --port?",
        "triton-video: port: should be a whole number, not x",
    ]
