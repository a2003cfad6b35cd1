"""What people do with the page: create, watch, reload, cancel, remix, delete, browse."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.async_api import expect

from pipeline.errors import GenerationError
from tests.proxy.page.conftest import FRAMES, PROMPT, SIDE, Visit, thumbnail
from tests.waiting import async_wait_for


async def test_created_video_is_watched_until_it_plays(visit: Visit) -> None:
    async with visit() as site:
        await site.ready()
        await site.begin()
        await expect(site.page.locator("#state")).to_have_text("0 %")
        await expect(site.page.locator("#gallery .state")).to_have_text("0 %")
        site.triton.gate.set()
        await site.page.wait_for_selector("#viewer video")
        script = "element => element.videoWidth"
        video = site.page.locator("#viewer video")
        await async_wait_for(lambda: video.evaluate(script))
        assert await video.evaluate(script) == SIDE
        await expect(site.page.locator("#viewer .prompt")).to_have_text(PROMPT)
        await expect(site.page.locator(".facts")).to_contain_text(f"{FRAMES} frames")
        await expect(site.page.locator("#announcer")).to_have_text("The video is ready.")
        await expect(site.page.locator("#gallery img")).to_be_visible()


async def test_preview_of_the_coming_video_is_shown_until_it_plays(visit: Visit) -> None:
    async with visit() as site:
        site.triton.preview = thumbnail()
        await site.ready()
        await site.begin()
        preview = site.page.get_by_role("img", name=f"Preview: {PROMPT}")
        await expect(preview).to_be_visible()
        assert await preview.evaluate("image => image.naturalWidth") == SIDE
        first = await preview.get_attribute("src")
        (video,) = await site.videos()
        site.api.service.previews.put(video["id"], thumbnail()[:-1] + b" ")
        await expect(preview).not_to_have_attribute("src", str(first))
        await site.page.reload()
        await expect(preview).to_be_visible()
        await expect(site.page.locator("#progress")).to_be_visible()
        site.triton.gate.set()
        await site.page.wait_for_selector("#viewer video")
        await expect(site.page.locator("#preview")).to_have_count(0)


async def test_download_has_the_bytes_and_the_name_of_the_video(visit: Visit) -> None:
    async with visit() as site:
        await site.ready()
        await site.finish()
        (video,) = await site.videos()
        async with site.page.expect_download() as started:
            await site.page.click("#download")
        download = await started.value
        assert download.suggested_filename == f"{video['id']}.mp4"
        saved = await asyncio.to_thread((await download.path()).read_bytes)
        assert saved == site.triton.mp4(PROMPT)


async def test_form_sends_only_the_fields_that_were_changed(visit: Visit) -> None:
    async with visit() as site:
        await site.ready()
        await site.page.select_option("#size", "80x48")
        await site.page.fill("#frames", "9")
        await expect(site.page.locator("#length")).to_have_text("1.1 s, 9 frames")
        await site.page.fill("#seed", "7")
        await site.page.click("#more summary")
        await site.page.fill("#steps", "3")
        async with site.page.expect_request("**/v1/videos") as sent:
            await site.create()
        assert (await sent.value).post_data_json == {
            "prompt": PROMPT,
            "size": "80x48",
            "num_frames": 9,
            "seed": 7,
            "num_inference_steps": 3,
        }
        (video,) = await site.videos()
        assert (video["size"], video["num_frames"], video["seed"]) == ("80x48", 9, 7)


async def test_reload_in_the_middle_resumes_the_same_video(visit: Visit) -> None:
    async with visit() as site:
        await site.ready()
        await site.begin()
        await site.page.reload()
        await expect(site.page.locator("#key-dialog")).to_be_hidden()
        await expect(site.page.locator("#viewer .prompt")).to_have_text(PROMPT)
        await site.page.wait_for_selector("#progress[value]")
        site.triton.gate.set()
        await site.page.wait_for_selector("#viewer video")
        assert len(await site.videos()) == 1


async def test_cancel_stops_the_video_and_keeps_its_record(visit: Visit) -> None:
    async with visit() as site:
        await site.ready()
        await site.begin()
        await site.page.click("text=Cancel")
        await expect(site.page.locator("#state")).to_have_text("Cancelled")
        await async_wait_for(lambda: site.triton.stopped == [PROMPT])
        (video,) = await site.videos()
        assert video["error"]["code"] == "cancelled"


async def test_remix_makes_a_video_from_another_prompt(visit: Visit) -> None:
    async with visit() as site:
        await site.ready()
        await site.finish()
        await site.ask_again("Remix", "a blue square")
        await site.page.click("text=Make remix")
        await site.plays("a blue square")
        newest, first = await site.videos()
        assert newest["remixed_from_video_id"] == first["id"]
        await expect(site.page.locator("#gallery li")).to_have_count(2)


@pytest.mark.parametrize(
    ("kind", "button", "sent"), [("edit", "Edit", {"strength": 0.5}), ("extension", "Extend", {})]
)
async def test_another_video_is_made_of_a_finished_one(
    visit: Visit, kind: str, button: str, sent: dict[str, Any]
) -> None:
    async with visit() as site:
        site.serve_model(edits=True, extends=True)
        await site.ready()
        await site.finish()
        await site.ask_again(button, "a blue square")
        if sent:
            await site.page.fill("#strength", "0.5")
            await expect(site.page.locator("#strength-value")).to_have_text("0.5")
        else:
            await expect(site.page.locator("#strength")).to_be_hidden()
        async with site.page.expect_request(f"**/v1/videos/{kind}s") as request:
            await site.page.click(f"text=Make {kind}")
        (first,) = await site.videos()
        body = {"prompt": "a blue square", "video": {"id": first["id"]}, **sent}
        assert (await request.value).post_data_json == body
        await site.plays("a blue square")
        newest, _ = await site.videos()
        assert newest["source"] == {"operation": kind, "video_id": first["id"]}


async def test_only_what_the_model_can_do_is_offered(visit: Visit) -> None:
    async with visit() as site:
        site.serve_model(edits=False, extends=True)
        await site.ready()
        await site.finish()
        await expect(site.page.locator("#extension")).to_be_visible()
        await expect(site.page.locator("#edit")).to_be_hidden()


async def test_refused_edit_says_why_in_its_dialog(visit: Visit) -> None:
    async with visit() as site:
        site.serve_model(edits=True)
        await site.ready()
        await site.finish()
        await site.ask_again("Edit", "")
        await site.page.click("text=Make edit")
        await expect(site.page.locator("#again-problem")).to_contain_text("prompt")
        assert len(await site.videos()) == 1


async def test_delete_asks_first_and_removes_the_video(visit: Visit) -> None:
    async with visit() as site:
        await site.ready()
        await site.finish()
        await site.page.click("text=Delete")
        await site.page.click("text=Keep it")
        assert len(await site.videos()) == 1
        await site.page.click("text=Delete")
        await site.page.click("#delete-dialog >> text=Delete video")
        await expect(site.page.locator("#gallery li")).to_have_count(0)
        await expect(site.page.locator("#gallery-empty")).to_be_visible()
        await expect(site.page.locator("#viewer h2")).to_have_text("Describe a video")
        assert await site.videos() == []


async def test_settings_of_a_video_can_be_used_again(visit: Visit) -> None:
    async with visit() as site:
        await site.ready()
        await site.api.create(prompt="a blue square", size="32x48", num_frames=5, seed=3)
        await site.page.reload()
        await site.page.click("#gallery button")
        await site.page.click("text=Reuse settings")
        values = [await site.page.input_value(f"#{name}") for name in ("width", "height", "frames")]
        assert values == ["32", "48", "5"]
        assert await site.page.input_value("#seed") == "3"
        assert await site.focused() == "prompt"


async def test_gallery_reads_older_videos_page_by_page(visit: Visit) -> None:
    async with visit({"max_queued": 100}) as site:
        site.triton.gate.clear()
        for number in range(30):
            await site.api.create(prompt=f"video {number}")
        await site.ready()
        await expect(site.page.locator("#gallery li")).to_have_count(24)
        await site.page.click("#gallery-more")
        await expect(site.page.locator("#gallery li")).to_have_count(30)
        await expect(site.page.locator("#gallery-more")).to_be_hidden()
        shown = await site.page.locator("#gallery .clamp").all_text_contents()
        assert shown == [f"video {number}" for number in reversed(range(30))]


async def test_video_of_another_client_appears(visit: Visit) -> None:
    async with visit() as site:
        await site.ready()
        await site.api.create(prompt="from elsewhere")
        await expect(site.page.locator("#gallery .clamp")).to_have_text("from elsewhere")


async def test_reference_image_is_sent_for_a_model_that_takes_one(visit: Visit) -> None:
    async with visit() as site:
        site.serve_model(image="optional")
        await site.ready()
        file = {"name": 'it"s; a,b.webp', "mimeType": "image/webp", "buffer": thumbnail()}
        await site.page.set_input_files("#image", file)
        await expect(site.page.locator("#image-view")).to_be_visible()
        assert await site.page.input_value("#size") == "image"
        await site.finish()
        assert site.triton.images != [None]
        assert len(site.triton.images) == 1
        await site.page.select_option("#size", "80x48")
        await site.page.click("text=Remove image")
        assert await site.page.input_value("#size") == "80x48"
        await site.page.set_input_files("#image", file)
        assert await site.page.input_value("#size") == "80x48"
        await site.page.select_option("#size", "image")
        await site.page.click("text=Remove image")
        assert await site.page.input_value("#size") == "64x64"
        assert await site.focused() == "image"
        await site.finish("without")
        assert site.triton.images[1] is None


async def test_image_can_be_dropped_and_pasted(visit: Visit) -> None:
    async with visit() as site:
        served = site.api.service.tritons._all[0]
        served.model = served.model.model_copy(update={"image": "required"})
        await site.ready()
        give = """([kind, target, name]) => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array([1])], name, { type: "image/png" }));
            document.querySelector(target).dispatchEvent(kind === "drop"
                ? new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true })
                : new ClipboardEvent("paste", { clipboardData: data, bubbles: true }));
        }"""
        for kind, target in (("drop", "#drop"), ("paste", "#prompt")):
            await site.page.evaluate(give, [kind, target, f"{kind}.png"])
            await expect(site.page.locator("#image-hint")).to_have_text(f"{kind}.png")
        await site.page.fill("#prompt", PROMPT)
        await site.page.click("#submit")
        await expect(site.page.locator("#problem")).to_contain_text("input_reference")


async def test_failed_video_shows_its_reason(visit: Visit) -> None:
    async with visit() as site:
        await site.ready()
        site.triton.failure = GenerationError("the decoder failed")
        await site.create()
        await expect(site.page.locator("#state")).to_have_text("Failed")
        (video,) = await site.videos()
        await expect(site.page.locator(".frame")).to_contain_text(video["error"]["message"])
        await expect(site.page.locator(".frame code")).to_have_text("backend_error")
        await expect(site.page.locator("#announcer")).to_have_text(video["error"]["message"])


async def test_form_waits_for_the_model(visit: Visit) -> None:
    async with visit() as site:
        served = site.api.service.tritons._all[0]
        served.model, model = None, served.model
        await site.give_key()
        await expect(site.page.locator("#notice")).to_contain_text("loading its model")
        await expect(site.page.locator("#submit")).to_be_disabled()
        served.model = model
        await expect(site.page.locator("#submit")).to_be_enabled()
        await expect(site.page.locator("#notice")).to_be_hidden()


async def test_event_source_follows_a_video_without_a_key_and_ends(visit: Visit) -> None:
    """Any page may watch a video by its link; the browser must not connect again at its end."""
    script = """(link) => new Promise((resolve) => {
        const seen = [], source = new EventSource(link);
        source.onmessage = ({ data }) => seen.push(JSON.parse(data).status);
        source.onerror = () => {
            if (source.readyState === EventSource.CLOSED) resolve(seen);
        };
    })"""
    async with visit() as site:
        site.triton.gate.clear()
        link = urlsplit((await site.api.create())["events_url"])
        watching = asyncio.create_task(site.page.evaluate(script, f"{link.path}?{link.query}"))
        await site.page.wait_for_timeout(100)
        site.triton.gate.set()
        seen = await watching
    assert (seen[-1], seen.count("completed")) == ("completed", 1)
