"""``triton-video doctor``: looks at this machine and says what to do."""

from __future__ import annotations

import json
import os

import click

from cli.output.table import table
from cli.params.commands import AnswerParams
from cli.params.options import ParamsCommand
from cli.params.sources import load
from pipeline.errors import ServerError

HELP = """Look at this machine and say what to do: Python and its packages, Triton, GPU, containers, memory, disk, port.

The exit code is 0 unless something would stop a run on this machine.
"""


def command() -> click.Command:
    """The click command; its options are made from the models in `cli.params.groups`."""
    return ParamsCommand("doctor", AnswerParams, callback=_doctor, help=HELP)


@click.pass_context
def _doctor(ctx: click.Context, /, **_: object) -> None:
    from cli.commands.diagnosis import State, examine

    answer = load(ctx, AnswerParams).answer
    findings = examine(os.environ)
    if answer.as_json:
        click.echo(json.dumps({"checks": [finding.described() for finding in findings]}))
    else:
        click.echo(
            "\n".join(
                table(
                    ("what", "state", "found"), [(f.name, f.state.value, f.found) for f in findings]
                )
            )
        )
        for finding in findings:
            if finding.advice:
                click.echo(f"\n{finding.name}: {finding.advice}")
    if any(finding.state is State.FAILED for finding in findings):
        ctx.exit(ServerError.exit_code)
