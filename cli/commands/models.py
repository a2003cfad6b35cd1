"""``triton-video models``: the families that are known, and the checkpoints and caches on this
machine.
"""

from __future__ import annotations

import json
import os

import click

from cli.params.commands import AnswerParams
from cli.params.options import ParamsCommand
from cli.params.sources import load

HELP = """List the families of models that are known, the checkpoints on this machine, and what the caches take.

It downloads nothing. Checkpoints are looked for in the hub's cache (HF_HUB_CACHE, HF_HOME).
"""


def command() -> click.Command:
    """The click command; its options are made from the models in `cli.params.groups`."""
    return ParamsCommand("models", AnswerParams, callback=_models, help=HELP)


@click.pass_context
def _models(ctx: click.Context, /, **_: object) -> None:
    from cli.commands.catalogue import catalogue, catalogue_text

    answer = load(ctx, AnswerParams).answer
    found = catalogue(os.environ)
    click.echo(json.dumps(found.described()) if answer.as_json else catalogue_text(found))
