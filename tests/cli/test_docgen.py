"""The reference page is what the declarations say, and every parameter has its flag, key and
variable.
"""

from __future__ import annotations

import re

import pytest

from cli import docgen as reference
from cli.commands.generate import command
from cli.interrupts import SIGNALS
from cli.main import run
from cli.params.commands import ExportParams, GenerateParams, ServeParams
from cli.params.options import Kind, parameters_of
from pipeline.errors import TritonVideoError
from pipeline.families import SamplingParams


@pytest.mark.parametrize("name", reference.pages())
def test_the_pages_are_fresh(name):
    written = (reference.FOLDER / name).read_text(encoding="utf-8")
    assert written == reference.pages()[name], "run python -m cli.docgen"


def test_check_finds_a_stale_page(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(reference, "FOLDER", tmp_path / "docs" / "reference")
    assert reference.main(["--check"]) == 1
    assert reference.main([]) == 0
    assert reference.main(["--check"]) == 0


def test_every_sampling_parameter_is_a_flag():
    flags = {name for option in command().params for name in option.opts}
    assert {f"--{name.replace('_', '-')}" for name in SamplingParams.model_fields} <= flags


def test_kinds_follow_from_annotations():
    kinds = {key: parameter.kind for key, parameter in parameters_of(GenerateParams).items()}
    assert (kinds["seed"], kinds["guidance_scale"], kinds["prompt"]) == (
        Kind.INTEGER,
        Kind.NUMBER,
        Kind.TEXT,
    )
    assert (kinds["model_path"], kinds["json"], kinds["vae_config"]) == (
        Kind.PATH,
        Kind.SWITCH,
        Kind.MAPPING,
    )
    assert kinds["vae_config.load_decoder"] is Kind.SWITCH
    assert (kinds["num_gpus"], kinds["output_file_name"]) == (Kind.INTEGER, Kind.TEXT)


@pytest.mark.parametrize("groups", [GenerateParams, ServeParams, ExportParams])
def test_every_parameter_is_described(groups):
    assert all(parameter.field.description for parameter in parameters_of(groups).values())


@pytest.mark.parametrize("flag", ["-h", "--help"])
@pytest.mark.parametrize(
    ("name", "groups"),
    [("generate", GenerateParams), ("serve", ServeParams), ("export", ExportParams)],
)
def test_help_lists_every_flag(capsys, flag, name, groups):
    assert run([name, flag]) == 0
    text = capsys.readouterr().out
    assert all(
        parameter.flag in text for parameter in parameters_of(groups).values() if parameter.flag
    )


def test_no_arguments_show_the_help(capsys):
    assert run([]) == 2
    assert "Commands:" in capsys.readouterr().err


def test_every_exit_code_is_listed_with_its_error():
    page = (reference.FOLDER / "cli.md").read_text(encoding="utf-8")
    kinds = [TritonVideoError, *TritonVideoError.__subclasses__()]
    for kind in (kind for kind in kinds if kind.__module__ == TritonVideoError.__module__):
        assert re.search(
            rf"^\| {kind.exit_code} \| .+ \(`{kind.__name__}`\) \|$", page, re.MULTILINE
        )
    for number in SIGNALS:
        assert re.search(rf"^\| 128 \+ n \| .*\b{128 + number} \({number.name}", page, re.MULTILINE)
