"""``triton-video models``: the families that are known, and the checkpoints and caches on this
machine.
"""

from __future__ import annotations

import json
import os
from typing import cast

import click

from cli.params.groups import ANSWER_GROUPS, AnswerParams
from cli.params.options import GroupedCommand
from cli.params.sources import check_groups, heard

HELP = """List the families of models that are known, the checkpoints on this machine, and what the caches take.

It downloads nothing. Checkpoints are looked for in the hub's cache (HF_HUB_CACHE, HF_HOME).
"""


def command() -> click.Command:
    """The click command; its options are made from the models in `cli.params.groups`."""
    return GroupedCommand("models", ANSWER_GROUPS, callback=_models, help=HELP)


@click.pass_context
def _models(ctx: click.Context, /, **values: object) -> None:
    from cli.commands.catalogue import catalogue, catalogue_text

    answer = cast(
        AnswerParams, check_groups(heard(ctx, values, ANSWER_GROUPS), ANSWER_GROUPS)["answer"]
    )
    found = catalogue(os.environ)
    click.echo(json.dumps(found.described()) if answer.as_json else catalogue_text(found))
