"""``triton-video models``: the supported families, and local checkpoints and caches."""

from __future__ import annotations

import json
import os

import click

from cli.params.commands import AnswerParams
from cli.params.options import ParamsCommand
from cli.params.sources import load

HELP = """List the supported model families, local checkpoints and the size of the caches.

It downloads nothing. Checkpoints are searched in the hub's cache (HF_HUB_CACHE, HF_HOME).
"""


def command() -> click.Command:
    """Return the click command; its options follow from its parameters in `cli.params.commands`."""
    return ParamsCommand("models", AnswerParams, callback=_models, help=HELP)


@click.pass_context
def _models(ctx: click.Context, /, **_: object) -> None:
    from cli.commands.catalogue import catalogue, catalogue_text

    answer = load(ctx, AnswerParams).answer
    found = catalogue(os.environ)
    click.echo(json.dumps(found.described()) if answer.as_json else catalogue_text(found))
