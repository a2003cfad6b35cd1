"""The table of docs/clients/index.md shows what each client did."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from PIL import Image
from playwright.async_api import Browser

from tests.browser import browser as browser
from tests.browser import tab
from tests.e2e.clients import installed, replays
from tests.e2e.clients.conftest import Story
from tests.e2e.clients.matrix import INSTALLED, PAGE, QUICK, Client, Outcomes
from tests.e2e.clients.page import used_page
from tests.e2e.clients.servers import Servers, is_mp4
from tests.e2e.program import Proxy

STORIES = {
    "openai_python": ("python-2", "python-3"),
    "openai_node": ("node-6", "node-7"),
    "curl": ("curl-json", "curl-form"),
}
"""Client -> its programs in the fixture `stories`."""


@pytest.fixture
def servers(proxy: Proxy, small_proxy: Proxy, tmp_path: Path) -> Servers:
    Image.new("RGB", (64, 64), "red").save(tmp_path / "picture.png")
    return Servers(proxy.url, small_proxy.url, tmp_path)


@pytest.fixture
def show(record_property: Callable[[str, object], None]) -> Callable[[Client, Outcomes], None]:
    """Compares what became of a client's actions with its row."""

    def compare(client: Client, outcomes: Outcomes) -> None:
        row = client.row(outcomes)
        record_property("row", row)
        rows = PAGE.read_text(encoding="utf-8").splitlines()
        assert row in rows, {action: seen for action, seen in outcomes.items() if seen}

    return compare


def by_name(names: Sequence[str], *clients: Client) -> list[Client]:
    return [client for client in clients if client.name in names]


@pytest.mark.parametrize("client", by_name([*STORIES], *QUICK), ids=lambda client: client.name)
def test_row_of_an_sdk_is_what_its_programs_saw(
    client: Client, stories: dict[str, Story], show: Callable[[Client, Outcomes], None]
) -> None:
    outcomes = Outcomes()
    for name in STORIES[client.name]:
        told, file = stories[name].told, stories[name].file
        for action, worked in {
            "create": told["created"]["status"] == "queued",
            "poll": told["made"]["status"] == "completed",
            "list": told["listed"]["asc"],
            "download": is_mp4(file.read_bytes()),
            "delete": told["deleted"]["deleted"],
            "image": told["moved"]["status"] == "completed",
            "edits": told["edited"]["status"] == "completed",
            "extensions": told["extended"]["status"] == "completed",
            "errors": told["refused"]["size"]["code"] == "invalid_value",
        }.items():
            if not outcomes.get(action):
                outcomes.note(action, worked, told)
    show(client, outcomes)


async def test_row_of_the_browser_is_what_the_page_did(
    browser: Browser, servers: Servers, show: Callable[[Client, Outcomes], None]
) -> None:
    (client,) = by_name(["browser"], *QUICK)
    async with tab(browser) as page:
        show(client, await used_page(page, servers))


@pytest.mark.parametrize(
    "client", by_name([*replays.OBSERVERS], *QUICK), ids=lambda client: client.name
)
def test_row_of_a_replayed_client_is_what_its_requests_got(
    client: Client, servers: Servers, show: Callable[[Client, Outcomes], None]
) -> None:
    show(client, replays.OBSERVERS[client.name](servers))


@pytest.mark.exhaustive
@pytest.mark.filterwarnings("ignore:The Sora API is scheduled:DeprecationWarning")  # of the SDK
@pytest.mark.timeout(600)  # some import for half a minute on a busy machine
@pytest.mark.parametrize("client", INSTALLED, ids=lambda client: client.name)
def test_row_of_an_installed_client_is_what_it_did(
    client: Client, servers: Servers, show: Callable[[Client, Outcomes], None]
) -> None:
    assert installed.INSTALLED.is_dir(), (
        "the clients are not installed: scripts/client_programs.sh does it, and `make test-all` "
        "runs that"
    )
    show(client, installed.OBSERVERS[client.name](servers))
