"""``--lora NAME[=PATH][:SCALE]``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cli.main import run
from cli.params.commands import GenerateParams
from cli.params.lora import LoraArgument
from tests.cli.params.loading import errors_of, params_of


def parsed(*values: str, **flags: Any) -> list[tuple[str, Path | None, float | None]]:
    return arguments(params_of({"prompt": "p", "lora": values, **flags}))


def arguments(params: GenerateParams) -> list[tuple[str, Path | None, float | None]]:
    found = [LoraArgument.parse(text) for text in params.stages.lora]
    return [(each.name, each.path, each.scale) for each in found]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=b.safetensors", ("a", Path("b.safetensors"), None)),
        ("a=/x/b.safetensors:0.8", ("a", Path("/x/b.safetensors"), 0.8)),
        ("a=b:c:-1", ("a", Path("b:c"), -1.0)),
        ("a=b:c", ("a", Path("b:c"), None)),
        ("a=b=c:.5", ("a", Path("b=c"), 0.5)),
        ("a:2", ("a", None, 2.0)),
        ("a.b-c_1", ("a.b-c_1", None, None)),
    ],
)
def test_name_path_and_scale(text: str, expected: tuple[str, Path | None, float | None]) -> None:
    assert parsed(text) == [expected]


def test_several_from_flags_variables_and_files(config: Any) -> None:
    expected = [("a", Path("x"), 0.5), ("b", None, None)]
    assert parsed("a=x:0.5", "b") == expected
    environment = {"TRITON_VIDEO_LORA": "a=x:0.5, b"}
    assert arguments(params_of({"prompt": "p"}, environment)) == expected
    file = config({"prompt": "p", "lora": ["a=x:0.5", "b"]})
    assert arguments(params_of({"config": str(file)})) == expected


@pytest.mark.parametrize("text", ["", "=x", "a=", "a b=x", "../a", "a:b", "a=:1", "é=x"])
def test_other_texts_are_refused(text: str) -> None:
    (error,) = errors_of({"prompt": "p", "lora": (text,)})
    assert error.startswith(f"lora: {text!r} should be NAME=PATH[:SCALE] or NAME[:SCALE]")


def test_a_home_folder_must_be_known() -> None:
    (error,) = errors_of({"prompt": "p", "lora": ("a=~nobody-of-this-name/x",)})
    assert error.startswith("lora: ~nobody-of-this-name/x names the home folder of no known user")


def test_scales_are_limited() -> None:
    assert errors_of({"prompt": "p", "lora": ("a:11",)}) == [
        "lora: 'a:11' has a scale of 11; it must be from -10 to 10"
    ]


def test_a_running_triton_takes_names() -> None:
    assert parsed("a:0.5", triton_url="127.0.0.1:1") == [("a", None, 0.5)]
    (error,) = errors_of({"prompt": "p", "lora_path": "x", "triton_url": "127.0.0.1:1"})
    assert error.startswith("lora_path: not allowed with --triton-url")


def test_requests_have_their_own_field() -> None:
    assert params_of({"prompt": "p", "lora": ("a=x",)}).sampling.lora is None


def test_config_show_prints_the_texts(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "show", "generate", "--prompt=p", "--lora", "a=x:0.5"]) == 0
    assert any(
        "lora" in line and "a=x:0.5" in line for line in capsys.readouterr().out.splitlines()
    )
