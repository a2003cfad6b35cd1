"""Every flag, file and sample of the page is valid, without a server."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.commands import generate, serve
from cli.main import run
from proxy.settings import HttpSettings
from tests.cli.params.loading import params_of
from tests.cli.seed import page

JSON = page.block("Using Configuration Files", "json")
YAML = page.block("Using Configuration Files", "yaml")
KEYS: dict[str, Any] = json.loads(JSON)


def test_json_and_yaml_config_are_equal():
    assert yaml.safe_load(YAML) == KEYS


@pytest.mark.parametrize(("key", "value"), KEYS.items(), ids=KEYS)
@pytest.mark.parametrize("kind", ["json", "yaml"])
def test_every_key_of_the_files_is_accepted(tmp_path: Path, kind: str, key: str, value: object):
    # With the prompt beside it, which is needed, and none of the others.
    wanted = {"prompt": KEYS["prompt"], key: value}
    file = tmp_path / f"config.{kind}"
    file.write_text(json.dumps(wanted) if kind == "json" else yaml.safe_dump(wanted))
    params_of({"config": str(file)})


@pytest.mark.parametrize("flag", page.flags())
def test_every_flag_is_one_of_a_command(flag: str):
    commands = (generate.command(), serve.command())
    known = {name for command in commands for option in command.params for name in option.opts}
    assert flag in known or flag == "--help"


@pytest.mark.parametrize("key", ["text_encoder_cpu_offload", "pin_cpu_memory"])
def test_every_switch_of_the_samples_can_be_turned_on(key: str):
    params_of({"prompt": "p", key: True})


def test_default_port_is_the_one_on_the_page():
    assert "`30010`" in page.TEXT
    assert HttpSettings.model_fields["port"].default == 30010


def words(sample: str) -> list[str]:
    """The words that bash hands to the command of a sample."""
    sample = sample.replace("sglang ", "printf '%s\\0' ")
    done = subprocess.run(["bash", "-c", sample], capture_output=True, text=True, check=True)
    return done.stdout.split("\0")[:-1]


SERVE, GENERATE = page.block("Start the server", "bash"), page.block("Generate", "bash")
WHOLE = {"$SERVER_ARGS": '"${SERVER_ARGS[@]}"', "$SAMPLING_ARGS": '"${SAMPLING_ARGS[@]}"'}
HINT = 'in bash write "${SERVER_ARGS[@]}", since $SERVER_ARGS is the first word of an array'


@pytest.mark.parametrize("sample", [SERVE, GENERATE], ids=["serve", "generate"])
def test_array_cut_by_bash_is_reported(capsys: pytest.CaptureFixture[str], sample: str):
    """As the page writes it, which is right in zsh, bash hands over ``--model-path`` alone."""
    assert run(words(sample)) == 2
    error = capsys.readouterr().err
    assert "option '--model-path' requires an argument" in error
    assert HINT in error


def test_array_joined_by_bash_is_reported(capsys: pytest.CaptureFixture[str]):
    assert run(words(SERVE.replace("$SERVER_ARGS", '"${SERVER_ARGS[*]}"'))) == 2
    error = capsys.readouterr().err
    assert "several options in one word" in error
    assert 'in bash write "${SERVER_ARGS[@]}"' in error


def test_quoted_bash_array_is_passed_whole():
    sample = GENERATE
    for name, whole in WHOLE.items():
        sample = sample.replace(name, whole)
    assert words(sample)[:3] == ["generate", "--model-path", "Wan-AI/Wan2.2-T2V-A14B-Diffusers"]
    assert words(sample)[-2:] == ["--output-file-name", "A curious raccoon.mp4"]
