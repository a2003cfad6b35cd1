"""What the program writes and answers in a run of good and bad requests, at its most talkative."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import httpx2 as httpx

from cli.runtime.embedded import EmbeddedServer
from tests.e2e.program import Proxy

PROMPT = "heron-over-the-marsh"
KEY = "sk-cuckoo-in-the-nest"
OTHER_KEY = "sk-magpie-at-the-door"
FOLDER = "owl-in-the-barn"


def test_no_key_prompt_or_path_shows_in_the_log_or_in_an_error(
    bundled: EmbeddedServer, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    proxy = Proxy(
        bundled.grpc_url,
        tmp_path / FOLDER,
        "--verbose",
        "--job-timeout-s",
        "1",
        keys=[KEY, OTHER_KEY],
        log=log,
    )
    proxy.start()
    with httpx.Client(
        base_url=f"{proxy.url}/v1", headers={"authorization": f"Bearer {KEY}"}
    ) as http:
        errors = scripted_run(http)
    proxy.stop(signal.SIGTERM)
    written = log.read_text()
    assert "POST /v1/videos 200" in written
    assert "timeout" in errors[-1]
    for secret in (PROMPT, KEY, OTHER_KEY, FOLDER):
        assert secret not in written
        assert not any(secret in error for error in errors)


def scripted_run(http: httpx.Client) -> list[str]:
    """The bodies of all answers that are no success, last that of the content of a failed job."""
    made = http.post("/videos", json={"prompt": PROMPT}).json()["id"]
    ended(http, made)
    http.get(f"/videos/{made}/content")
    stopped = http.post(
        "/videos", files={"prompt": (None, PROMPT), "num_inference_steps": (None, "200")}
    ).json()["id"]
    refused = [
        http.post("/videos", json={"prompt": PROMPT, "size": "65x63"}),
        http.post("/videos", json={"prompt": [PROMPT]}),
        http.post("/videos", json={"prompt": PROMPT, "seed": PROMPT}),
        http.post("/videos", json={"prompt": PROMPT, "model": "sora-2"}),
        http.post(
            "/videos",
            content=f'{{"prompt": "{PROMPT}'.encode(),
            headers={"content-type": "application/json"},
        ),
        http.post(
            "/videos",
            content=PROMPT.encode(),
            headers={"content-type": "multipart/form-data; boundary=x"},
        ),
        http.post(
            "/videos", files={"prompt": (None, PROMPT), "input_reference": (f"/etc/{PROMPT}", b"x")}
        ),
        http.post(f"/videos/{made}/remix", json={"prompt": PROMPT, "sede": 1}),
        http.get(f"/videos/{stopped}/content"),
        http.get("/videos", headers={"authorization": f"Bearer {OTHER_KEY}x"}),
        http.get("/videos", params={"limit": PROMPT}),
    ]
    http.delete(f"/videos/{stopped}")
    failed = http.post("/videos", data={"prompt": PROMPT, "num_inference_steps": "200"}).json()[
        "id"
    ]
    assert ended(http, failed)["status"] == "failed"
    refused.append(http.get(f"/videos/{failed}/content"))
    assert all(400 <= answer.status_code < 500 for answer in refused)
    return [answer.text for answer in refused]


def ended(http: httpx.Client, video_id: str) -> dict[str, str]:
    while (video := http.get(f"/videos/{video_id}").json())["status"] not in (
        "completed",
        "failed",
    ):
        time.sleep(0.05)
    return video
