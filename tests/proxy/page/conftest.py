"""The page in a real Chromium, in front of the application with a fake Triton."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image
from playwright.async_api import Browser, Page, expect

from tests.browser import browser as browser
from tests.browser import tab
from tests.proxy.conftest import Api, FakeTriton, Opener
from tests.proxy.live import live

PROMPT = "a red circle moves right"
SIDE, FRAMES = 64, 17


@dataclass
class Site:
    """The application behind a socket, and a tab that has opened the page."""

    api: Api
    page: Page
    url: str

    @property
    def triton(self) -> FakeTriton:
        return self.api.triton

    def serve_model(self, **able: Any) -> None:
        """Serve a model that can do this, by the fields of its description."""
        served = self.api.service.tritons._all[0]
        served.model = self.triton.info = self.triton.info.model_copy(update=able)

    async def give_key(self, key: str = "key-a") -> None:
        await self.page.fill("#key", key)
        await self.page.keyboard.press("Enter")

    async def ready(self) -> None:
        """Give the key, and return when a video can be made."""
        await self.give_key()
        await self.page.wait_for_selector("#submit:enabled")

    async def create(self, prompt: str = PROMPT) -> None:
        await self.page.fill("#prompt", prompt)
        await self.page.click("#submit")
        await self.page.wait_for_selector("#viewer .prompt")

    async def begin(self, prompt: str = PROMPT) -> None:
        """Create a video, and return when it is being made; the fake Triton then waits."""
        self.triton.gate.clear()
        await self.create(prompt)
        await self.page.wait_for_selector("#progress[value]")

    async def finish(self, prompt: str = PROMPT) -> None:
        """Create a video, and return when it plays."""
        before = self.page.url
        await self.create(prompt)
        await self.page.wait_for_url(lambda url: url != before)  # the address names the video
        await self.page.wait_for_selector("#viewer video")

    async def ask_again(self, button: str, prompt: str) -> None:
        """Open the dialog of the button of the selected video, and enter another prompt."""
        await self.page.get_by_role("button", name=button, exact=True).click()
        await self.page.fill("#again-prompt", prompt)

    async def plays(self, prompt: str) -> None:
        """Return when a video of this prompt is selected and plays."""
        await expect(self.page.locator("#viewer .prompt")).to_have_text(prompt)
        await self.page.wait_for_selector("#viewer video")

    async def videos(self) -> list[dict[str, Any]]:
        return (await self.api.http.get("/v1/videos")).json()["data"]

    async def focused(self) -> str:
        """Return the id or else the text of the element with the focus."""
        script = "() => document.activeElement.id || document.activeElement.textContent"
        return await self.page.evaluate(script)


Visit = Callable[..., AbstractAsyncContextManager[Site]]


@pytest.fixture
def visit(browser: Browser, serve: Opener, monkeypatch: pytest.MonkeyPatch) -> Visit:
    """Opens the application and the page: ``async with visit() as site``.

    ``settings`` are those of ``serve``; other options are those of the tab.
    """
    monkeypatch.setattr("proxy.updates.TICK_S", 0.02)
    monkeypatch.setattr("tests.proxy.conftest.THUMBNAIL", thumbnail())

    @asynccontextmanager
    async def opened(settings: dict[str, Any] | None = None, **options: Any) -> AsyncIterator[Site]:
        async with serve(**(settings or {})) as api, live(api.app) as served:
            api.triton.mp4 = lambda prompt: mp4()
            async with tab(browser, **options) as page:
                url = f"http://127.0.0.1:{served.port}/"
                await page.goto(url)
                yield Site(api, page, url)

    return opened


@cache
def mp4() -> bytes:
    """Return a short video that a browser can play."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width = stream.height = SIDE
        for shade in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(np.full((SIDE, SIDE, 3), 9 * shade, np.uint8))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()


@cache
def thumbnail() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (SIDE, SIDE), "red").save(file, "WEBP")
    return file.getvalue()
