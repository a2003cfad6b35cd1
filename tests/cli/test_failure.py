"""How a failure is reported: a sentence each, and JSON for programs."""

from __future__ import annotations

import json

import pytest

from cli.failure import InputErrors, Style, report
from pipeline.errors import InputError

ONE = InputError("prompt", "is too odd")
OTHER = InputError("seed", "is too large")


def test_json_of_one_problem_has_no_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(InputErrors([ONE]), Style(as_json=True)) == 2
    printed = json.loads(capsys.readouterr().out)
    assert list(printed) == ["error"]
    assert printed["error"]["field"] == "prompt"


def test_json_of_several_problems_lists_them_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(InputErrors([ONE, OTHER]), Style(as_json=True)) == 2
    out, err = capsys.readouterr()
    printed = json.loads(out)
    assert printed["error"] == printed["errors"][0]
    assert [entry["field"] for entry in printed["errors"]] == ["prompt", "seed"]
    assert err.splitlines() == [
        "triton-video: prompt: is too odd",
        "triton-video: seed: is too large",
    ]
