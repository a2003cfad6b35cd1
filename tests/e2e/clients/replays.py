"""Requests of clients that are not installed here, sent as their source code sends them.

Each function names the source that was read. What a client expects of an answer is checked as that
source checks it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping

import httpx2 as httpx

from tests.e2e.clients.matrix import Outcomes
from tests.e2e.clients.servers import PROMPT, Servers, ended, is_mp4

# Fields of a form by name, each a text or a file.
Form = Mapping[str, str | tuple[str, bytes, str]]


def form(http: httpx.Client, path: str, fields: Form) -> httpx.Response:
    parts = {name: (None, part) if isinstance(part, str) else part for name, part in fields.items()}
    return http.post(path, files=parts)


def watch(http: httpx.Client, outcomes: Outcomes, answer: httpx.Response) -> str:
    """Note how a created video ends and downloads; returns its id."""
    created = answer.json()
    outcomes.note("create", answer.status_code == 200 and created["error"] is None, created)
    if answer.status_code != 200:
        return ""
    made = ended(http, created["id"])
    outcomes.note("poll", (made["status"], made["progress"]) == ("completed", 100), made)
    content = http.get(f"/videos/{made['id']}/content")
    good = is_mp4(content.content) and content.headers["content-type"] == "video/mp4"
    outcomes.note("download", good, content.headers)
    return made["id"]


def n8n(servers: Servers) -> Outcomes:
    """n8n, OpenAi/v2/actions/video/generate.operation.ts: a form with one of Sora's sizes."""
    outcomes = Outcomes()
    fields = {"model": "sora-2", "prompt": PROMPT, "seconds": "4", "size": "1280x720"}
    with servers.http(servers.small) as http:
        watch(http, outcomes, form(http, "/videos", fields))
        refused = form(http, "/videos", {**fields, "seconds": "0"}).json()
        outcomes.note("errors", "seconds" in refused["error"]["message"], refused)
    with servers.http(servers.small) as http:
        image = ("photo.png", picture(servers), "image/png")
        answer = form(http, "/videos", {**fields, "seconds": "0.2", "input_reference": image})
        outcomes.note("image", answer.status_code == 200 and completes(http, answer), answer.text)
    return outcomes


def new_api(servers: Servers) -> Outcomes:
    """new-api and one-api, relay/channel/task/sora/adaptor.go: the caller's body with another
    ``model``, as JSON or as a form, in which files lose no type; no listing of its own.
    """
    outcomes = Outcomes()
    body = {"prompt": PROMPT, "seconds": "1", "size": "64x64", "model": "sora-2", "user": "u-7"}
    body |= {"metadata": {"task": "t-1"}, "num_inference_steps": 2}
    with servers.http(servers.small) as http:
        made = watch(http, outcomes, http.post("/videos", json=body))
        remixed = http.post(f"/videos/{made}/remix", json={"prompt": "blue", "model": "sora-2"})
        outcomes.note("create", remixed.status_code == 200, remixed.text)
        failed = http.post("/videos", json={**body, "size": "65x63"})
        outcomes.note("errors", set(failed.json()["error"]) >= {"message", "code"}, failed.text)
    with servers.http(servers.small) as http:
        image = ("photo.png", picture(servers), "image/png")
        fields = {"model": "sora-2", "prompt": PROMPT, "input_reference": image}
        answer = form(http, "/videos", fields)
        outcomes.note("image", answer.status_code == 200 and completes(http, answer), answer.text)
    return outcomes


def vllm_omni(servers: Servers) -> Outcomes:
    """vLLM-Omni's videos API and FastVideo's server_contracts/openai.md: ``video_params``,
    ``extra_params`` as JSON text, ``image_reference``; also the synchronous route.
    """
    outcomes = Outcomes()
    body = {"model": "sora-2", "prompt": PROMPT, "size": "64x64", "seed": 42}
    body |= {"video_params": {"fps": 8, "num_frames": 9}, "num_inference_steps": 2}
    fields = {"prompt": PROMPT, "width": "64", "height": "64", "num_frames": "9", "fps": "8"}
    fields |= {"guidance_scale": "1.0", "extra_params": json.dumps({"num_inference_steps": 2})}
    with servers.http(servers.small) as http:
        made = watch(http, outcomes, http.post("/videos", json=body))
        direct = form(http, "/videos/sync", fields)
        outcomes.note("create", is_mp4(direct.content), direct.headers)
        listed = http.get("/videos", params={"limit": 100, "order": "desc"}).json()["data"]
        outcomes.note("list", made in [video["id"] for video in listed], listed)
        outcomes.note("delete", http.delete(f"/videos/{made}").json()["deleted"])
        refused = http.post("/videos", json={**body, "model": "unknown"}).json()
        outcomes.note("errors", refused["error"]["param"] == "model", refused)
    with servers.http(servers.small) as http:
        image = {"image_url": data_url(servers)}
        answer = http.post("/videos", json={"prompt": PROMPT, "image_reference": image})
        outcomes.note("image", answer.status_code == 200 and completes(http, answer), answer.text)
    return outcomes


def openrouter(servers: Servers) -> Outcomes:
    """OpenRouter's API reference: ``duration``, ``aspect_ratio``, ``resolution``,
    ``frame_images``; clients that only change OpenRouter's path to this server's.
    """
    outcomes = Outcomes()
    body = {"model": "sora-2", "prompt": PROMPT, "duration": 1, "aspect_ratio": "1:1", "seed": 7}
    body |= {"generate_audio": False}
    with servers.http(servers.small) as http:
        watch(http, outcomes, http.post("/videos", json=body))
        refused = http.post("/videos", json={**body, "generate_audio": True}).json()
        outcomes.note("errors", refused["error"]["param"] == "generate_audio", refused)
    with servers.http(servers.small) as http:
        frame = {"type": "image_url", "image_url": {"url": data_url(servers)}}
        frames = [{**frame, "frame_type": "first_frame"}]
        answer = http.post("/videos", json={"prompt": PROMPT, "frame_images": frames})
        outcomes.note("image", answer.status_code == 200 and completes(http, answer), answer.text)
    return outcomes


def vercel(servers: Servers) -> Outcomes:
    """Vercel's AI SDK, pull request 17151 for @ai-sdk/openai-compatible: ``POST /videos/`` with a
    slash, and it waits for the status "succeeded", which OpenAI's API does not have.
    """
    outcomes = Outcomes()
    with servers.http(servers.small) as http:
        body = {"model": "sora-2", "prompt": PROMPT}
        answer = http.post("/videos/", json=body)
        outcomes.note("create", answer.status_code == 200, answer.text)
        made = ended(http, http.post("/videos", json=body).json()["id"])
        outcomes.note("poll", made["status"] == "succeeded" and made["url"], made)
        hint = answer.json()["error"]["message"]
        outcomes.note("errors", "without the slash" in hint, hint)
    return outcomes


def completes(http: httpx.Client, answer: httpx.Response) -> bool:
    return ended(http, answer.json()["id"])["status"] == "completed"


def picture(servers: Servers) -> bytes:
    return (servers.folder / "picture.png").read_bytes()


def data_url(servers: Servers) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture(servers)).decode()}"


OBSERVERS: Mapping[str, Callable[[Servers], Outcomes]] = {
    "n8n": n8n,
    "new_api": new_api,
    "vllm_omni": vllm_omni,
    "openrouter": openrouter,
    "vercel": vercel,
}
