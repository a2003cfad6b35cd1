"""Errors of the API in words, at the field that they name."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from tests.proxy.page.conftest import Site, Visit


async def fill(site: Site, field: str, value: str) -> None:
    if await site.page.locator(f"#more #{field}").count():
        await site.page.click("#more summary")
    if field in ("width", "height"):
        await site.page.select_option("#size", "custom")
    await site.page.fill(f"#{field}", value)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("width", "65", "width: 65 is not valid; it must be a multiple of 16, at most 1280"),
        ("prompt", "", "prompt"),
        ("steps", "1001", "num_inference_steps"),
        ("guidance", "101", "guidance_scale"),
        ("seed", "-2", "seed"),
        ("seed", "9007199254740993", "seed: this is not valid; it must be a number up to"),
        ("fps", "0", "fps"),
    ],
)
async def test_error_names_the_field_and_moves_there(
    visit: Visit, field: str, value: str, message: str
) -> None:
    async with visit() as site:
        await site.ready()
        await site.page.fill("#prompt", "a red circle")
        await fill(site, field, value)
        await site.page.click("#submit")
        await expect(site.page.locator("#problem")).to_contain_text(message)
        await expect(site.page.locator(f"#{field}")).to_be_focused()
        await expect(site.page.locator("[aria-invalid=true]")).to_have_count(1)
        described = await site.page.get_attribute(f"#{field}", "aria-describedby")
        assert "problem" in (described or "").split()
        assert await site.videos() == []


async def test_next_try_clears_the_error(visit: Visit) -> None:
    async with visit() as site:
        await site.ready()
        await site.page.click("#submit")
        await expect(site.page.locator("#problem")).to_be_visible()
        await site.finish()
        await expect(site.page.locator("#problem")).to_be_hidden()
        await expect(site.page.locator("[aria-invalid]")).to_have_count(0)


async def test_full_queue_is_reported_with_the_time_to_wait(visit: Visit) -> None:
    async with visit({"max_queued": 1}) as site:
        await site.ready()
        await site.begin()
        await site.api.create(prompt="waits")
        await site.page.click("#submit")
        await expect(site.page.locator("#problem")).to_have_text(
            "The queue is full; try again later. Wait 10 seconds."
        )
        await expect(site.page.locator("#problem")).to_be_focused()


async def test_lost_server_is_reported_and_the_page_recovers(visit: Visit) -> None:
    async with visit() as site:
        await site.ready()
        await site.begin()
        await site.page.context.set_offline(True)
        site.api.service.updates.close()
        await expect(site.page.locator("#notice")).to_contain_text("cannot be reached")
        await site.page.context.set_offline(False)
        site.api.service.updates._closing.clear()
        site.triton.gate.set()
        await site.page.wait_for_selector("#viewer video")
        await expect(site.page.locator("#notice")).to_be_hidden()


async def test_answer_that_is_not_of_the_api_is_reported(visit: Visit) -> None:
    """Such as a page of a reverse proxy."""
    async with visit() as site:
        await site.ready()
        await site.page.route(
            "**/v1/videos", lambda route: route.fulfill(status=502, body="<h1>Bad gateway</h1>")
        )
        await site.page.fill("#prompt", "a red circle")
        await site.page.click("#submit")
        await expect(site.page.locator("#problem")).to_have_text(
            "The server answered with status 502."
        )
