"""A real headless Chromium for the tests of the page, driven by Playwright."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from playwright.async_api import Browser, Page, async_playwright, expect

PROGRAMS = ("chromium-headless-shell", "chromium", "google-chrome")
TIMEOUT_MS = 15_000  # of each wait; the machine may be busy
# Makes a violation of the Content-Security-Policy an error of the page.
WATCH_POLICY = """addEventListener("securitypolicyviolation", ({ violatedDirective, blockedURI }) =>
    console.error(`policy: ${violatedDirective} ${blockedURI}`));"""


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    """One Chromium for the session; skips where none is installed."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip("no Chromium; scripts/setup_tests.sh installs Debian's")
    expect.set_options(timeout=TIMEOUT_MS)
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(executable_path=program)
        yield started
        await started.close()


@asynccontextmanager
async def tab(browser: Browser, **options: Any) -> AsyncIterator[Page]:
    """Open a tab with a storage of its own, at the size of a laptop unless ``options`` differ.

    At the end it must have had no error and no violation of the Content-Security-Policy, and it
    must have called no other server.
    """
    errors: list[str] = []
    context = await browser.new_context(**{"viewport": {"width": 1180, "height": 860}, **options})
    context.set_default_timeout(TIMEOUT_MS)
    try:
        page = await context.new_page()
        await page.add_init_script(WATCH_POLICY)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.extend(_error_of(message.type, message.text)))
        addresses: list[str] = []
        page.on("request", lambda request: addresses.append(request.url))
        yield page
        servers = {url.split("/")[2] for url in addresses if url.startswith("http")}
        assert errors == []
        assert len(servers) <= 1
    finally:
        await context.close()


def _error_of(kind: str, text: str) -> list[str]:
    # Chromium also logs each answer of 4xx and 5xx, which the page handles.
    return [text] if kind == "error" and not text.startswith("Failed to load resource") else []
