"""``triton-video config show``: the values a command would use, and the source of each."""

from __future__ import annotations

import json
from collections.abc import Iterable

import click

from cli.commands.config_values import Used, used_values
from cli.output.table import table
from cli.params.commands import COMMANDS
from cli.params.options import ParamsCommand, parameters_of
from cli.params.sources import collect_from

HELP = """Show the values a command would use, and the source of each.

It starts no server and downloads nothing.
"""


def command() -> click.Command:
    """Return the click command; `show` has one command, with the same flags, for each shown one."""
    commands = []
    for name, params in COMMANDS.items():
        shown = ParamsCommand(
            name,
            params,
            callback=_show,
            help=f"Show what `triton-video {name}` would use with the same flags.",
        )
        if "json" not in parameters_of(params):
            shown.params.append(
                click.Option(["--json", "json"], is_flag=True, help="Print one JSON object.")
            )
        commands.append(shown)
    show = click.Group("show", help=HELP, commands=commands)
    return click.Group("config", help="Show the configuration.", commands=[show])


@click.pass_context
def _show(ctx: click.Context, /, **_: object) -> None:
    name = str(ctx.info_name)
    params = COMMANDS[name]
    used = used_values(collect_from(ctx, params), params)
    click.echo(_json(name, used) if ctx.params.get("json") else _text(used))


def _text(used: Iterable[Used]) -> str:
    rows = [(each.key, _cell(each.shown), each.source) for each in used]
    return "\n".join(table(("key", "value", "from"), rows))


def _json(name: str, used: Iterable[Used]) -> str:
    values = {each.key: {"value": _plain(each.shown), "from": each.source} for each in used}
    return json.dumps({"command": name, "values": values}, ensure_ascii=False)


def _cell(value: object) -> str:
    plain = _plain(value)
    text = plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return list(value)
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
