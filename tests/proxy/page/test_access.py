"""Who can use the page: keys, keyboards, screen readers, small screens."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Route, expect

from tests.proxy.page.conftest import Site, Visit

NAMELESS = """() => [...document.querySelectorAll("button, a, input, select, textarea, video")]
    .filter((element) => element.checkVisibility())
    .filter((element) => {
        const labels = [...element.labels ?? []].map((label) => label.textContent);
        const names = [element.getAttribute("aria-label"), element.textContent, ...labels];
        return !names.some((name) => name?.trim());
    })
    .map((element) => element.outerHTML)"""
REPEATED_IDS = """() => [...document.querySelectorAll("[id]")].map(({ id }) => id)
    .filter((id, index, ids) => ids.indexOf(id) !== index)"""
OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"


async def test_wrong_key_is_refused_in_words_and_a_right_one_works(visit: Visit) -> None:
    async with visit() as site:
        await site.give_key("wrong")
        await expect(site.page.locator("#key-problem")).to_have_text("Incorrect API key provided.")
        assert await site.focused() == "key"
        await site.give_key("schlüssel")
        await expect(site.page.locator("#key-problem")).to_contain_text("ASCII")
        await site.ready()
        await expect(site.page.locator("#key-dialog")).to_be_hidden()


async def test_another_key_shows_its_own_videos(visit: Visit) -> None:
    async with visit() as site:
        await site.ready()
        await site.finish()
        await site.page.click("#change-key")
        await site.give_key("key-b")
        await expect(site.page.locator("#gallery-empty")).to_be_visible()
        await expect(site.page.locator("#viewer h2")).to_have_text("Describe a video")
        await expect(site.page.locator("#code")).to_be_hidden()


async def test_key_is_kept_in_this_tab_only(visit: Visit) -> None:
    async with visit() as site:
        await site.ready()
        await site.finish()
        page = site.page
        assert "key-a" in await page.evaluate("() => JSON.stringify(sessionStorage)")
        assert await page.evaluate("() => localStorage.length + document.cookie.length") == 0
        assert "key-a" not in page.url + await page.content()
        other = await page.context.new_page()
        await other.goto(site.url)
        await other.wait_for_selector("#key-dialog[open]")


async def test_videos_of_the_first_key_do_not_reach_the_second(visit: Visit) -> None:
    """A list of the first key that is on its way when the second one is entered."""
    async with visit() as site:
        await site.ready()
        await site.api.create(prompt="of key-a")
        late = asyncio.Event()

        async def hold(route: Route) -> None:
            if route.request.headers.get("authorization") == "Bearer key-a":
                await late.wait()
            await route.continue_()

        await site.page.route("**/v1/videos?*", hold)
        async with site.page.expect_request("**/v1/videos?*"):
            pass  # the next refresh
        await site.page.click("#change-key")
        await site.give_key("key-b")
        await expect(site.page.locator("#key-dialog")).to_be_hidden()
        async with site.page.expect_response(lambda answer: "/v1/videos?" in answer.url):
            late.set()
        async with site.page.expect_response(lambda answer: "/v1/videos?" in answer.url):
            pass  # the next refresh, after which everything is shown
        await expect(site.page.locator("#gallery-empty")).to_be_visible()


async def test_page_works_below_a_path_of_a_reverse_proxy(visit: Visit) -> None:
    async with visit() as site:
        paths: list[str] = []

        async def strip(route: Route) -> None:
            paths.append(urlsplit(route.request.url).path)
            await route.continue_(url=route.request.url.replace("/prefix/", "/"))

        await site.page.route("**/*", strip)
        await site.page.goto(f"{site.url}prefix/")
        await site.ready()
        await site.finish()
        assert f"{site.url}prefix/v1/videos" in await site.page.inner_text("#snippet")
        await site.page.click("text=API reference")
        await site.page.wait_for_selector(".operation")
        assert [path for path in paths if not path.startswith("/prefix/")] == []


async def test_server_without_keys_asks_for_none(visit: Visit) -> None:
    async with visit({"keys": ()}) as site:
        await site.page.wait_for_selector("#submit:enabled")
        await expect(site.page.locator("#key-dialog")).to_be_hidden()
        await site.finish()
        assert "OPENAI_API_KEY" not in await site.page.inner_text("#snippet")


async def test_keyboard_alone_makes_cancels_and_deletes_a_video(visit: Visit) -> None:
    async with visit() as site:
        press, page = site.page.keyboard.press, site.page
        await page.wait_for_selector("#key-dialog[open]")
        await page.keyboard.type("key-a")
        await press("Enter")
        await page.wait_for_selector("#submit:enabled")
        await page.evaluate("() => document.activeElement.blur()")
        await press("Tab")
        assert await site.focused() == "Skip to the prompt"
        await press("Enter")
        assert await site.focused() == "prompt"
        site.triton.gate.clear()
        await page.keyboard.type("a green cross")
        await press("Control+Enter")
        await page.wait_for_selector("#progress[value]")
        await tab_to(site, "Cancel")
        await press("Enter")
        await expect(page.locator("#state")).to_have_text("Cancelled")
        assert await site.focused() != "BODY"
        await tab_to(site, "Delete")
        await press("Enter")
        await page.wait_for_selector("#delete-dialog[open]")
        assert await site.focused() == "Delete video"
        await press("Enter")
        await expect(page.locator("#gallery li")).to_have_count(0)
        await expect(page.locator("#gallery-title")).to_be_focused()
        await tab_to(site, "API reference", most=40)


async def test_escape_closes_a_dialog_and_returns_to_its_button(visit: Visit) -> None:
    async with visit() as site:
        await site.ready()
        await site.finish()
        await site.page.focus("text=Remix")
        await site.page.keyboard.press("Enter")
        await site.page.wait_for_selector("#again-dialog[open]")
        assert await site.focused() == "again-prompt"
        await site.page.keyboard.press("Escape")
        assert await site.focused() == "remix"


async def test_refresh_leaves_the_focus_where_it_is(visit: Visit) -> None:
    async with visit() as site:
        await site.ready()
        await site.begin()
        await site.page.focus("text=Reuse settings")
        await site.api.create(prompt="from elsewhere")
        await expect(site.page.locator("#gallery li")).to_have_count(2)
        assert await site.focused() == "Reuse settings"


async def test_everything_has_a_name_and_an_id_of_its_own(visit: Visit) -> None:
    async with visit() as site:
        await site.page.wait_for_selector("#key-dialog[open]")
        assert await site.page.evaluate(NAMELESS) == []
        await site.ready()
        await site.page.click("#more summary")
        await site.page.select_option("#size", "custom")
        await site.finish()
        assert await site.page.evaluate(NAMELESS) == []
        assert await site.page.evaluate(REPEATED_IDS) == []
        await expect(site.page.locator("h1")).to_have_count(1)


@pytest.mark.parametrize("width", [320, 390, 800])
async def test_no_state_scrolls_sideways(visit: Visit, width: int) -> None:
    async with visit(viewport={"width": width, "height": 700}, has_touch=True) as site:
        await site.ready()
        assert await site.page.evaluate(OVERFLOW) <= 0, "empty"
        await site.begin("W" * 300)
        assert await site.page.evaluate(OVERFLOW) <= 0, "running"
        site.triton.gate.set()
        await site.page.wait_for_selector("#viewer video")
        await site.page.click("#more summary")
        assert await site.page.evaluate(OVERFLOW) <= 0, "finished"
        await site.page.click("text=Remix")
        assert await site.page.evaluate(OVERFLOW) <= 0, "dialog"
        await site.page.goto(f"{site.url}docs")
        for summary in await site.page.locator(".operation summary").all():
            await summary.click()
        assert await site.page.evaluate(OVERFLOW) <= 0, "reference"


@pytest.mark.parametrize(("motion", "plays"), [("reduce", False), ("no-preference", True)])
async def test_nothing_moves_for_those_who_want_no_motion(
    visit: Visit, motion: str, plays: bool
) -> None:
    async with visit(reduced_motion=motion) as site:
        await site.ready()
        await site.begin()
        animation = "element => getComputedStyle(element).animationName"
        assert (await site.page.locator(".frame").evaluate(animation) != "none") == plays
        site.triton.gate.set()
        video = site.page.locator("#viewer video")
        assert await video.evaluate("element => element.autoplay") == plays


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_text_has_enough_contrast(visit: Visit, scheme: str) -> None:
    """WCAG's ratio of 4.5 for each colour of text on each background that it appears on."""
    pairs = [
        ("ink", "paper"), ("ink", "card"), ("soft", "card"), ("soft", "paper"), ("ink", "well"),
        ("accent", "card"), ("accent", "paper"), ("accent", "tint"), ("on-accent", "accent"),
        ("bad", "bad-tint"), ("ink", "tint"), ("card", "bad"), ("soft", "field"), ("soft", "well"),
    ]  # fmt: skip
    async with visit(color_scheme=scheme) as site:
        colours = {
            name: await site.page.evaluate(
                "name => getComputedStyle(document.documentElement).getPropertyValue(name)",
                f"--{name}",
            )
            for name in {name for pair in pairs for name in pair}
        }
        low = {pair for pair in pairs if contrast(*(colours[name] for name in pair)) < 4.5}
        assert low == set()


def contrast(one: str, other: str) -> float:
    """Return WCAG's contrast ratio of two colours, ``#rgb`` or ``#rrggbb``."""
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    digits = colour.strip().lstrip("#")
    digits = "".join(digit * 2 for digit in digits) if len(digits) == 3 else digits
    parts = [int(digits[start : start + 2], 16) / 255 for start in (0, 2, 4)]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


async def tab_to(site: Site, name: str, most: int = 30) -> None:
    """Press Tab until the element of this text has the focus."""
    for _ in range(most):
        await site.page.keyboard.press("Tab")
        if await site.focused() == name:
            return
    pytest.fail(f"Tab does not reach {name!r}")
