"""The table of clients: rows that tests recorded replace the old ones, and the others stay."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.client_matrix import rows, with_rows
from tests.e2e.clients.matrix import ACTIONS, QUICK, Outcomes

HEAD = "| client | tested |\n|---|---|"
PAGE = (
    "# Clients\n\n<!-- clients: begin -->\n| client |\n|---|\n| [curl](curl.md) | run | no |\n"
    "| [n8n](n8n.md) | replayed | yes |\n<!-- clients: end -->\n\nMore.\n"
)


def test_new_row_replaces_the_clients_old_row() -> None:
    assert with_rows(PAGE, HEAD, ["| [curl](curl.md) | run | yes |"]) == (
        f"# Clients\n\n<!-- clients: begin -->\n{HEAD}\n| [curl](curl.md) | run | yes |\n"
        "| [n8n](n8n.md) | replayed | yes |\n<!-- clients: end -->\n\nMore.\n"
    )


def test_page_without_a_table_is_an_error() -> None:
    with pytest.raises(ValueError, match="no place for the table"):
        with_rows("# Clients\n", HEAD, [])


def test_rows_are_read_in_the_order_of_the_tests(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(
        '<testsuites><testsuite><testcase><properties><property name="row" value="| b |"/>'
        '<property name="other" value="x"/></properties></testcase><testcase><properties>'
        '<property name="row" value="| a |"/></properties></testcase></testsuite></testsuites>'
    )
    assert rows(report) == ["| b |", "| a |"]


def test_row_says_yes_no_or_unknown_action() -> None:
    outcomes = Outcomes()
    outcomes.note("create", True, "not shown")
    outcomes.note("poll", [], "a failed job")
    assert outcomes == {"create": "", "poll": "saw a failed job"}
    row = QUICK[2].row(outcomes)
    assert row == f"| [curl](curl.md) | run | yes | no{' | -' * (len(ACTIONS) - 2)} |"
