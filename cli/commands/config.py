"""``triton-video config show``: what a command would use, and where each value comes from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import click
from pydantic import BaseModel

from cli.output.table import table
from cli.params.groups import EXPORT_GROUPS, GROUPS, SERVE_GROUPS, TRITON_GROUPS, WORKER_GROUPS
from cli.params.options import GroupedCommand
from cli.params.sources import heard

if TYPE_CHECKING:
    from cli.commands.config_values import Used

HELP = """Show what a command would use and where each value comes from; it starts nothing and downloads nothing."""
SHOWN: Mapping[str, Mapping[str, type[BaseModel]]] = {
    "generate": GROUPS,
    "serve": SERVE_GROUPS,
    "worker": WORKER_GROUPS,
    "export": EXPORT_GROUPS,
    "triton": TRITON_GROUPS,
}


def command() -> click.Command:
    """The click command; it takes the flags of the command that it shows."""
    commands = []
    for name, groups in SHOWN.items():
        shown = GroupedCommand(
            name,
            groups,
            callback=_show,
            help=f"What `triton-video {name}` would use with the same flags.",
        )
        if all(option.name != "json" for option in shown.params):
            shown.params.append(
                click.Option(["--json", "json"], is_flag=True, help="Print one JSON object.")
            )
        commands.append(shown)
    show = click.Group("show", help=HELP, commands=commands)
    return click.Group("config", help="Look at the configuration.", commands=[show])


@click.pass_context
def _show(ctx: click.Context, /, **values: object) -> None:
    from cli.commands.config_values import used_values

    name = str(ctx.info_name)
    as_json = bool(values.get("json"))
    groups = SHOWN[name]
    known = (
        values
        if "report" in groups
        else {key: value for key, value in values.items() if key != "json"}
    )
    used = used_values(heard(ctx, known, groups), groups)
    click.echo(_json(name, used) if as_json else _text(used))


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
