"""The page in a real Chromium makes a video with the bundled checkpoint, through a real Triton."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

from playwright.async_api import Browser

from cli.runtime.embedded import EmbeddedServer
from tests.browser import browser as browser
from tests.browser import tab
from tests.e2e.program import KEY, Proxy
from tests.waiting import async_wait_for

PROMPT = "a red circle moves right on a white background"
# Of the frame that is shown, the share of pixels that are red and those that are white.
COLOURS = """video => {
    const canvas = document.createElement("canvas");
    const [width, height] = [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
    const context = canvas.getContext("2d");
    context.drawImage(video, 0, 0);
    const { data } = context.getImageData(0, 0, width, height);
    const share = (test) => [...Array(width * height).keys()]
        .filter((index) => test(...data.slice(4 * index, 4 * index + 3))).length / width / height;
    return {
        size: [width, height],
        red: share((r, g, b) => r > 150 && g < 110 && b < 110),
        white: share((r, g, b) => Math.min(r, g, b) > 190),
    };
}"""


async def test_page_makes_the_video_of_its_prompt(
    browser: Browser, bundled: EmbeddedServer, tmp_path: Path
) -> None:
    proxy = Proxy(bundled.grpc_url, tmp_path / "data")
    await asyncio.to_thread(proxy.start)
    try:
        async with tab(browser) as page:
            page.set_default_timeout(60_000)
            await page.goto(proxy.url)
            await page.fill("#key", KEY)
            await page.keyboard.press("Enter")
            await page.wait_for_selector("#submit:enabled")
            await page.fill("#prompt", PROMPT)
            await page.fill("#frames", "17")
            await page.fill("#seed", "7")
            await page.click("#more summary")
            await page.fill("#steps", "200")  # a preview is due, whatever else is made
            await page.fill("#guidance", "4")
            await page.click("#submit")
            await page.wait_for_selector("#viewer .prompt")
            await page.get_by_role("img", name=f"Preview: {PROMPT}").wait_for()
            await page.reload()
            video = page.locator("#viewer video")
            await video.wait_for()
            await async_wait_for(lambda: video.evaluate("video => video.readyState > 1"))
            shown = await video.evaluate(COLOURS)
        assert shown["size"] == [64, 64]
        assert 0.01 < shown["red"] < 0.5
        assert shown["white"] > 0.5
    finally:
        await asyncio.to_thread(proxy.stop, signal.SIGTERM)
