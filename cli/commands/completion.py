"""``triton-video completion``: what makes a shell complete our command line."""

from __future__ import annotations

import click

from cli.failure import PROGRAM

SHELLS = ("bash", "zsh", "fish")
HELP = """Print what makes a shell complete the command line.

\b
bash: triton-video completion bash > ~/.local/share/bash-completion/completions/triton-video
zsh:  triton-video completion zsh > a file _triton-video in a folder of $fpath
fish: triton-video completion fish > ~/.config/fish/completions/triton-video.fish
"""


def command() -> click.Command:
    """The click command."""
    shell = click.Argument(["shell"], type=click.Choice(SHELLS))
    return click.Command("completion", params=[shell], callback=_completion, help=HELP)


def _completion(shell: str) -> None:
    from click.shell_completion import get_completion_class

    from cli.main import COMPLETE_VARIABLE, group

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(group(), {}, PROGRAM, COMPLETE_VARIABLE).source())
