"""Shell completion: the scripts, and what they are answered."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from cli.main import COMMANDS, COMPLETE_VARIABLE, run


@pytest.fixture
def offered(monkeypatch, capsys):
    """What bash is offered for the last of some words."""

    def offered(*words: str) -> list[str]:
        monkeypatch.setenv("COMP_WORDS", " ".join(["triton-video", *words]))
        monkeypatch.setenv("COMP_CWORD", str(len(words)))
        monkeypatch.setenv(COMPLETE_VARIABLE, "bash_complete")
        assert run([]) == 0
        printed = capsys.readouterr()
        assert printed.err == ""
        return printed.out.split()

    return offered


def test_commands(offered):
    assert offered("") == [f"plain,{name}" for name in COMMANDS]
    assert offered("ge") == ["plain,generate"]
    assert offered("nonsense", "x") == []


def test_flags(offered):
    assert offered("generate", "--prompt", "a", "--num-f") == ["plain,--num-frames"]
    assert offered("serve", "--por") == ["plain,--port"]
    assert "plain,--vae-config.tile-sample-min-height" in offered("generate", "--vae-config.tile")
    assert offered("config", "show", "serve", "--por") == ["plain,--port"]


def test_values(offered):
    assert offered("generate", "--vae-engine", "t") == ["plain,tile", "plain,torch"]
    assert offered("generate", "--model-path", "m") == ["file,m"]
    assert offered("generate", "--prompt", "a") == []


def test_incomplete_line_is_not_an_error(offered):
    assert offered("generate", "--nonsense", "--num-f") == ["plain,--num-frames"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts(capsys, shell):
    assert run(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert f"{COMPLETE_VARIABLE}={shell}_complete" in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True)


def test_unknown_shell_lists_the_known_ones(capsys):
    assert run(["completion", "tcsh"]) == 2
    assert "'bash', 'zsh', 'fish'" in capsys.readouterr().err
