"""The page of this server as a client: what a user does with it in a real Chromium."""

from __future__ import annotations

from playwright.async_api import Page, expect

from tests.e2e.clients.conftest import BROWSER_KEY
from tests.e2e.clients.matrix import Outcomes
from tests.e2e.clients.servers import PROMPT, Servers, is_mp4


async def used_page(page: Page, servers: Servers) -> Outcomes:
    """Return what became of each action of a user."""
    outcomes = Outcomes()
    page.set_default_timeout(60_000)
    await page.goto(servers.keyed)
    await page.fill("#key", BROWSER_KEY)
    await page.keyboard.press("Enter")
    await page.wait_for_selector("#submit:enabled")
    await page.click("#more summary")
    await page.fill("#frames", "9")

    await page.fill("#steps", "1001")
    await page.fill("#prompt", PROMPT)
    await page.click("#submit")
    problem = page.locator("#problem")
    await problem.wait_for()
    shown = await problem.text_content()
    outcomes.note("errors", "num_inference_steps" in (shown or ""), shown)

    await page.fill("#steps", "2")
    outcomes.note("create", *await made(page))
    ready = await page.text_content("#announcer")
    outcomes.note("poll", ready == "The video is ready.", ready)
    async with page.expect_download() as saving:
        await page.click("#download")
    file = await (await saving.value).path()
    outcomes.note("download", is_mp4(file.read_bytes()), file)

    await page.set_input_files("#image", servers.folder / "picture.png")
    outcomes.note("image", *await made(page))
    for action, kind in (("edits", "edit"), ("extensions", "extension")):
        await page.click(f"#{kind}")
        if kind == "edit":
            await page.fill("#strength", "1")  # less leaves none of this model's one step
        outcomes.note(action, *await made(page, f"text=Make {kind}"))
    await page.reload()
    videos = page.locator("#gallery li")
    await expect(videos).to_have_count(4)
    outcomes.note("list", await videos.count() == 4)
    await page.click("text=Delete")
    await page.click("#delete-dialog >> text=Delete video")
    await expect(videos).to_have_count(3)
    outcomes.note("delete", await videos.count() == 3)
    return outcomes


async def made(page: Page, button: str = "#submit") -> tuple[bool, str]:
    """Press a button that makes a video; return whether it plays, and the address of the page."""
    before = page.url
    await page.click(button)
    await page.wait_for_url(lambda url: url != before)
    await page.wait_for_selector("#viewer video")
    return await page.locator("#viewer .prompt").text_content() == PROMPT, page.url
