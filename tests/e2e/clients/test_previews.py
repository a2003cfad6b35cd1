"""Previews of a video of the bundled checkpoint travel from its ranks to the owner of the video."""

from __future__ import annotations

import base64
import io
import json

import av
import httpx2 as httpx
import numpy as np
from PIL import Image

from tests.e2e.clients.conftest import EXAMPLE_KEY
from tests.e2e.clients.servers import PAGE_KEY
from tests.e2e.program import Proxy

# So many steps that a preview is due although other videos are made at the same time.
BODY = {
    "prompt": "a red circle moves right on a white background",
    "num_frames": 17,
    "num_inference_steps": 200,
    "guidance_scale": 4,
    "seed": 7,
}


def client(proxy: Proxy, key: str) -> httpx.Client:
    headers = {"authorization": f"Bearer {key}"}
    return httpx.Client(base_url=f"{proxy.url}/v1", headers=headers, timeout=120)


def test_preview_resembles_the_first_frame_of_the_video(proxy: Proxy) -> None:
    with client(proxy, EXAMPLE_KEY) as http, client(proxy, PAGE_KEY) as other:
        video_id = http.post("/videos", json=BODY).json()["id"]
        path = f"/videos/{video_id}/events?previews=true"
        assert other.get(path).status_code == 404
        shown, lines = [], []
        with http.stream("GET", path) as answer:
            for line in answer.iter_lines():
                lines.append(line)
                if lines[-2:-1] == ["event: preview"]:
                    data = json.loads(line.removeprefix("data: "))
                    shown.append(base64.b64decode(data["b64_json"]))
        assert '"status":"completed"' in "".join(lines)
        file = http.get(f"/videos/{video_id}/content").content
    assert shown, "a preview arrives"
    preview = Image.open(io.BytesIO(shown[-1]))
    assert (preview.format, preview.size) == ("WEBP", (64, 64))
    with av.open(io.BytesIO(file)) as container:
        frame = next(container.decode(video=0)).to_ndarray(format="rgb24")
    likeness = np.corrcoef(np.asarray(preview.convert("RGB")).ravel(), frame.ravel())[0, 1]
    assert likeness > 0.5
