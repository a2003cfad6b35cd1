"""``triton-video serve`` in front of a made-up Triton.

Run it as ``python -m tests.security.http_program FLAGS``. Environment: with ``HOLD`` no video ever
finishes, ``VIDEO_BYTES`` is the size of each, and ``PING_S`` the seconds between the comments of an
event stream. The model takes images and videos, but not with ``TEXT_ONLY``.
"""

from __future__ import annotations

import os
import sys

import pytest

from cli.main import run
from pipeline.checkpoint.folder import Checkpoint
from tests.proxy.conftest import MP4, SHAPES, FakeTriton


def main() -> int:
    takes = "TEXT_ONLY" not in os.environ
    image = "optional" if takes else "refused"
    info = Checkpoint.open(SHAPES).info.model_copy(
        update={"image": image, "edits": takes, "extends": takes}
    )
    mp4 = MP4.ljust(int(os.environ.get("VIDEO_BYTES", "0")), b"\0")

    def connect(url: str, token: str | None) -> FakeTriton:
        triton = FakeTriton(info, url, mp4=lambda _: mp4)
        if "HOLD" in os.environ:
            triton.gate.clear()
        return triton

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("proxy.tritons.AsyncVideoClient", connect)
        if "PING_S" in os.environ:
            patch.setattr("proxy.routes.events.PING_S", float(os.environ["PING_S"]))
        return run(["serve", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
