"""Prompts, errors and file names are text of strangers: the page shows it and never runs it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Error, expect

from tests.proxy.page.conftest import Site, Visit

HOSTILE = (
    "<img src=x onerror=\"window.ran = 1\"><script>ran = 1</script>'; touch ran; '"
    ' $(touch ran) `touch ran` \\ " \n {{ran}} 🎬 @/etc/passwd'
)


async def test_prompt_with_markup_is_shown_as_text(visit: Visit) -> None:
    async with visit() as site:
        await site.ready()
        await site.finish(HOSTILE)
        assert await site.page.text_content("#viewer .prompt") == HOSTILE
        assert await site.page.text_content("#gallery .clamp") == HOSTILE
        await site.page.click("text=Delete")
        assert await site.page.text_content("#delete-what") == HOSTILE
        assert await site.page.evaluate("() => window.ran") is None


async def test_policy_refuses_markup_and_scripts_from_text(visit: Visit) -> None:
    """What a mistake in the page would do: Trusted Types stop it."""
    async with visit() as site:
        page = await site.page.context.new_page()  # where violations are no errors of the test
        await page.goto(site.url)
        for script in (
            "() => { document.body.innerHTML = '<b>'; }",
            "() => { document.createElement('script').text = '1'; }",
            "() => { document.body.setAttribute('onclick', '1'); }",
        ):
            with pytest.raises(Error, match=r"TrustedHTML|TrustedScript"):
                await page.evaluate(script)


@pytest.mark.parametrize("size", [None, "80x48"])
async def test_curl_command_sends_the_same_request(
    visit: Visit, tmp_path: Path, size: str | None
) -> None:
    async with visit() as site:
        await site.ready()
        if size:
            await site.page.select_option("#size", size)
        await site.page.fill("#seed", "7")
        await site.finish(HOSTILE)
        again = await run(["bash", "-c", await snippet(site, "curl")], tmp_path)
        await same_video(site, json.loads(again))
        assert not (tmp_path / "ran").exists()


async def test_python_program_makes_the_same_video(visit: Visit, tmp_path: Path) -> None:
    async with visit() as site:
        await site.ready()
        await site.page.select_option("#size", "80x48")
        await site.page.fill("#seed", "7")
        await site.finish(HOSTILE)
        await run([sys.executable, "-W", "ignore", "-c", await snippet(site, "python")], tmp_path)
        again = (await site.videos())[0]
        await same_video(site, again)
        saved = (tmp_path / f"{again['id']}.mp4").read_bytes()
        assert saved == site.triton.mp4(HOSTILE)


async def test_code_of_each_action_does_what_the_page_did(visit: Visit, tmp_path: Path) -> None:
    async with visit() as site:
        await site.ready()
        first = await site.api.wait((await site.api.create(prompt="first"))["id"])
        await site.page.reload()
        await site.page.click("#gallery button")
        await run(["bash", "-c", await snippet(site, "curl")], tmp_path)
        saved = (tmp_path / f"{first['id']}.mp4").read_bytes()
        assert saved == site.triton.mp4("")
        await site.ask_again("Remix", HOSTILE)
        await site.page.click("text=Make remix")
        await site.plays(HOSTILE)
        answer = await run(["bash", "-c", await snippet(site, "curl")], tmp_path)
        assert json.loads(answer)["remixed_from_video_id"] == first["id"]
        await run([sys.executable, "-W", "ignore", "-c", await snippet(site, "python")], tmp_path)
        assert [video["prompt"] for video in await site.videos()] == [HOSTILE] * 3 + ["first"]
        await site.begin("stopped")
        await site.page.click("text=Cancel")
        await expect(site.page.locator("#state")).to_have_text("Cancelled")
        stopped = (await site.videos())[0]["id"]
        for language, program in (("curl", ["bash", "-c"]), ("python", [sys.executable, "-c"])):
            code = await snippet(site, language)
            assert "/cancel" in code
            site.triton.gate.clear()
            waiting = (await site.api.create())["id"]
            await run([*program, code.replace(stopped, waiting)], tmp_path)
            assert (await site.api.wait(waiting))["error"]["code"] == "cancelled"


@pytest.mark.parametrize(("kind", "button"), [("edit", "Edit"), ("extension", "Extend")])
async def test_code_makes_another_video_of_the_same_one(
    visit: Visit, tmp_path: Path, kind: str, button: str
) -> None:
    async with visit() as site:
        site.serve_model(edits=True, extends=True)
        await site.ready()
        await site.finish("first")
        await site.ask_again(button, HOSTILE)
        await site.page.click(f"text=Make {kind}")
        await site.plays(HOSTILE)
        await run(["bash", "-c", await snippet(site, "curl")], tmp_path)
        await run([sys.executable, "-W", "ignore", "-c", await snippet(site, "python")], tmp_path)
        *made, first = await site.videos()
        source = {"operation": kind, "video_id": first["id"]}
        assert [(video["prompt"], video["source"]) for video in made] == [(HOSTILE, source)] * 3
        assert (tmp_path / f"{made[0]['id']}.mp4").stat().st_size > 0


async def same_video(site: Site, again: dict[str, Any]) -> None:
    videos = await site.videos()
    (page,) = (video for video in videos if video["id"] != again["id"])
    for name in ("prompt", "size", "seed", "num_frames"):
        assert again[name] == page[name]
    assert again["prompt"] == HOSTILE


async def snippet(site: Site, language: str) -> str:
    await site.page.click(f"[data-language={language}]")
    code = await site.page.inner_text("#snippet")
    assert "key-a" not in code
    return code


async def run(command: list[str], folder: Path) -> str:
    """Run a program with the key in its environment, and return what it prints."""
    environment = {**os.environ, "OPENAI_API_KEY": "key-a"}
    done = await asyncio.to_thread(
        subprocess.run, command, cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
