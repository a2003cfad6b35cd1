"""The API reference at ``/docs``: all of openapi.json, without a key and without another server."""

from __future__ import annotations

from playwright.async_api import expect

from proxy.creation import CreateVideo
from tests.proxy.page.conftest import Visit


async def test_reference_shows_every_operation_field_and_answer(visit: Visit) -> None:
    async with visit() as site:
        document = (await site.api.http.get("/openapi.json")).json()
        await site.page.goto(f"{site.url}docs")
        await site.page.wait_for_selector(".operation")
        shown = await site.page.locator(".operation summary code").all_text_contents()
        operations = [
            f"{method.upper()}{path}"
            for path, methods in document["paths"].items()
            for method in methods
        ]
        assert [name for name in operations if name not in shown] == []
        assert shown[0] == "GET/v1/videos"
        await site.page.click("summary:has-text('Queue a video.')")
        create = site.page.locator(".operation[open]")
        for name in CreateVideo.model_fields:
            row = create.locator("tr", has=site.page.get_by_text(name, exact=True))
            await expect(row.first).to_be_visible()
        prompt = create.locator("tr", has=site.page.get_by_text("prompt", exact=True))
        await expect(prompt.first).to_have_text(
            "prompt (required)string up to 32000 charactersText description of the video."
        )
        answers = document["paths"]["/v1/videos"]["post"]["responses"]
        for status in answers.keys() - {"default"}:
            await expect(create.get_by_text(status, exact=True)).to_be_visible()
        text = await site.page.inner_text("main")
        assert "undefined" not in text
        assert "``" not in text


async def test_reference_has_the_address_of_the_server(visit: Visit) -> None:
    async with visit() as site:
        await site.page.goto(f"{site.url}docs")
        await expect(site.page.locator("#base")).to_have_text(f"{site.url}v1")
        await site.page.click("text=Make a video")
        await site.page.wait_for_selector("#key-dialog[open]")
