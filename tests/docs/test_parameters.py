"""Every flag, config key, variable and field of a request is in the reference, and what is there
exists.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest

from cli.docgen import FOLDER
from cli.main import COMMANDS, COMPLETE_VARIABLE, group
from cli.params.commands import (
    AnswerParams,
    CalibrateParams,
    CommandParams,
    ExportParams,
    GenerateParams,
    ServeParams,
    TritonParams,
    WorkerParams,
)
from cli.params.credentials import KEYS_VARIABLE, WEBHOOK_VARIABLE
from cli.params.options import VARIABLE_PREFIX, Parameter, parameters_of
from cli.params.sources import CONFIG
from cli.run.triton_token import VARIABLE as TOKEN_VARIABLE
from proxy.fields import CreateVideo
from proxy.images import PROPERTIES as IMAGE_PROPERTIES
from proxy.images import ImageOptions
from proxy.spellings import PROPERTIES

PAGES: Mapping[str, type[CommandParams]] = {
    "cli.md": GenerateParams,
    "serve.md": ServeParams,
    "worker.md": WorkerParams,
    "export.md": ExportParams,
    "triton.md": TritonParams,
    "calibrate.md": CalibrateParams,
    "tools.md": AnswerParams,
}
# Variables that stand beside a parameter, and are read in one place each.
BESIDE_PARAMETERS = {
    KEYS_VARIABLE, WEBHOOK_VARIABLE, TOKEN_VARIABLE, f"{VARIABLE_PREFIX}CACHE",
    f"{VARIABLE_PREFIX}{CONFIG.upper()}"
}  # fmt: skip
ALL = [parameter for groups in PAGES.values() for parameter in parameters_of(groups).values()]


def read(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def rows(page: str, columns: int) -> list[list[str]]:
    """The cells of the tables of so many columns, without their heads."""
    cells = [
        re.split(r"(?<!\\) \| ", line[2:-2])
        for line in read(page).splitlines()
        if line.startswith("| `")
    ]
    cells += [
        re.split(r"(?<!\\) \| ", line[2:-2])
        for line in read(page).splitlines()
        if line.startswith("| - ")
    ]
    return [row for row in cells if len(row) == columns]


def names(cell: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", cell))


def flags(parameter: Parameter) -> set[str]:
    return {flag for flag in (parameter.short_flag, parameter.flag, parameter.off_flag) if flag}


@pytest.mark.parametrize("page", PAGES)
def test_a_page_lists_the_parameters_of_its_command_and_no_others(page: str) -> None:
    parameters = list(parameters_of(PAGES[page]).values())
    listed = rows(page, 6)
    assert {key for row in listed for key in names(row[1])} == {
        parameter.key for parameter in parameters
    }
    assert {flag for row in listed for flag in names(row[0])} == set().union(
        *map(flags, parameters)
    )
    assert {name for row in listed for name in names(row[2])} == {
        p.variable for p in parameters if p.variable
    }


def test_each_variable_and_each_flag_means_one_key() -> None:
    for attribute in ("variable", "flag", "name"):
        keys: dict[str, set[str]] = {}
        for parameter in ALL:
            if name := getattr(parameter, attribute):
                keys.setdefault(name, set()).add(parameter.key)
        assert [name for name, meant in keys.items() if len(meant) > 1] == []


def test_the_fields_of_a_request_and_no_others() -> None:
    listed = rows("http-fields.md", 3)
    assert {row[0].strip("`") for row in listed} == {
        *CreateVideo.model_fields,
        *PROPERTIES,
        *ImageOptions.model_fields,
        *IMAGE_PROPERTIES,
    }
    assert all(row[2].strip() for row in listed)


def test_every_command_and_every_flag_of_one_that_is_not_a_parameter() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in FOLDER.glob("*.md"))
    for name in COMMANDS:
        assert re.search(rf"`triton-video {name}\b", text), name
    for page in PAGES.keys() - {"tools.md"}:
        name = "generate" if page == "cli.md" else page.removesuffix(".md")
        known = {
            flag for parameter in parameters_of(PAGES[page]).values() for flag in flags(parameter)
        }
        others = {flag for option in options(name) for flag in option} - known
        assert [
            flag
            for flag in others
            if f"`{flag}" not in read(page) and f"`{flag}" not in read("cli.md")
        ] == []


def options(name: str) -> list[list[str]]:
    commands = group()
    with commands.make_context("triton-video", [name, "--help"], resilient_parsing=True) as ctx:
        command = commands.get_command(ctx, name)
        assert command is not None
        return [[*option.opts, *option.secondary_opts] for option in command.params]


@pytest.mark.parametrize("page", sorted(FOLDER.glob("*.md")), ids=lambda page: page.name)
def test_no_page_names_a_flag_or_a_variable_that_is_not_there(page) -> None:
    # `--no-` is how the second flag of a switch begins.
    known_flags = {flag for parameter in ALL for flag in flags(parameter)} | {
        "--config",
        "--help",
        "--version",
        "--no",
    }
    known_variables = {p.variable for p in ALL if p.variable} | BESIDE_PARAMETERS
    text = page.read_text(encoding="utf-8").replace("python -m cli.docgen", "")
    used = set(re.findall(r"(?<![\w.-])--[a-z][a-z0-9.-]*[a-z0-9]", text))
    assert used - known_flags == set()
    assert set(re.findall(rf"(?<!_){VARIABLE_PREFIX}[A-Z0-9_]+", text)) - known_variables == set()
    assert COMPLETE_VARIABLE not in text
