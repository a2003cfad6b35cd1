"""The servers that a client is pointed at, and the examples of its page."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any

import httpx2 as httpx

from tests.e2e.clients.matrix import FOLDER

PAGE_KEY = "secret"
PAGE_URL = "http://127.0.0.1:30010"
PROMPT = "a red circle moves right"
ENDED = ("completed", "failed")


@dataclass(frozen=True)
class Servers:
    """The URLs of two proxies of the bundled checkpoint, and a folder for what a client writes.

    ``keyed`` requires a key. ``small`` is for clients that send none or ask for Sora's sizes: its
    videos have at most 64x64 pixels.
    """

    keyed: str
    small: str
    folder: Path

    def http(self, url: str, key: str = PAGE_KEY) -> httpx.Client:
        headers = {"authorization": f"Bearer {key}"}
        return httpx.Client(base_url=f"{url}/v1", headers=headers, timeout=60)


def example(page: str, language: str, number: int = 0, server: str = PAGE_URL) -> str:
    """Return a code block of a page in docs/clients, with the URL of ``server`` in it."""
    text = (FOLDER / page).read_text(encoding="utf-8")
    blocks = re.findall(rf"^ *```{language}\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    return dedent(blocks[number]).replace(PAGE_URL, server)


def ended(http: httpx.Client, video_id: str) -> Mapping[str, Any]:
    """Poll a video until it is completed or failed."""
    while (video := http.get(f"/videos/{video_id}").json())["status"] not in ENDED:
        time.sleep(0.05)
    return video


def is_mp4(content: bytes) -> bool:
    return content[4:8] == b"ftyp"
