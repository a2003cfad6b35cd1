"""Writes the screenshots of the page to docs/images: each state, in light and dark.

    TRITON_VIDEO_API_KEYS=secret triton-video serve --data-path /tmp/new-folder &
    python -m scripts.page_screenshots http://127.0.0.1:30010 secret

The server should have the bundled checkpoint and no videos. Needs the packages of the extra ``dev``
and the Chromium of scripts/setup_tests.sh.
"""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "images"
SIZE = {"width": 1180, "height": 960}
PROGRAM = "chromium-headless-shell"
PROMPTS = (
    "a blue square grows on a black background",
    "a green cross moves up on a grey background",
    "a purple triangle shrinks on a white background",
)
LAST_PROMPT = "a red circle moves right on a white background"
MANY_STEPS = 160  # the bundled checkpoint is too quick to be seen at work
LONGEST_MS = 120_000
# Shows a frame in the middle, without controls.
HALF_WAY = """video => { video.pause(); video.controls = false; video.currentTime = 1; }"""


def main(url: str, key: str) -> None:
    program = shutil.which(PROGRAM)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program)
        for scheme in ("light", "dark"):
            shoot(browser, url, key, scheme)
        browser.close()


def shoot(browser: Browser, url: str, key: str, scheme: str) -> None:
    """Take the screenshots of one colour scheme: first light, which makes the videos."""
    context = browser.new_context(color_scheme=scheme, viewport=SIZE)  # type: ignore[arg-type]
    context.set_default_timeout(LONGEST_MS)
    page = context.new_page()
    page.goto(url)
    page.fill("#key", key)
    page.keyboard.press("Enter")
    page.wait_for_selector("#submit:enabled")
    page.wait_for_function("() => !document.querySelector('.cover img[hidden]')")
    save(page, f"page-empty-{scheme}")
    for prompt in PROMPTS if scheme == "light" else ():
        make(page, prompt)
        page.wait_for_selector("#viewer video")
    page.click("#more summary")
    page.fill("#steps", str(MANY_STEPS))
    page.click("#more summary")
    make(page, LAST_PROMPT)
    page.wait_for_function("() => document.querySelector('#progress')?.value > 40")
    page.wait_for_selector("#preview:not([hidden])")
    save(page, f"page-running-{scheme}")
    page.wait_for_selector("#viewer video")
    page.wait_for_function("() => !document.querySelector('.cover img[hidden]')")
    page.locator("#viewer video").evaluate(HALF_WAY)
    page.wait_for_timeout(1000)
    save(page, f"page-finished-{scheme}")
    page.select_option("#size", "custom")
    page.fill("#width", "65")
    page.click("#submit")
    page.wait_for_selector("#problem:not([hidden])")
    save(page, f"page-error-{scheme}")
    context.close()


def make(page: Page, prompt: str) -> None:
    page.fill("#prompt", prompt)
    page.fill("#seed", "7")
    page.click("#submit")
    page.wait_for_selector(f"#viewer .prompt:text-is('{prompt}')")


def save(page: Page, name: str) -> None:
    """Save what the window shows as a PNG of 128 colours, which is small."""
    image = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    image.quantize(128).save(FOLDER / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
