"""``triton-video completion``: a script for completion in a shell."""

from __future__ import annotations

import click

from cli.failure import PROGRAM

COMPLETE_VARIABLE = "_TRITON_VIDEO_COMPLETE"  # set by the shell scripts that click makes
SHELLS = ("bash", "zsh", "fish")
HELP = """Print a shell-completion script.

\b
bash: triton-video completion bash > ~/.local/share/bash-completion/completions/triton-video
zsh:  triton-video completion zsh > a file named _triton-video in a folder of $fpath
fish: triton-video completion fish > ~/.config/fish/completions/triton-video.fish
"""


def command() -> click.Command:
    """Return the click command."""
    shell = click.Argument(["shell"], type=click.Choice(SHELLS))
    return click.Command("completion", params=[shell], callback=_completion, help=HELP)


@click.pass_context
def _completion(ctx: click.Context, /, shell: str) -> None:
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(ctx.find_root().command, {}, PROGRAM, COMPLETE_VARIABLE).source())
