"""A program that describes the video file on its standard input, as one line of JSON.

The video is a stranger's. Its decoder runs in this process, within limits of memory and processor
time, so that a file that crashes it, or makes it slow, fails its own request only.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import resource
import sys

from pipeline.errors import InputError
from pipeline.families.inputs import MAX_VIDEO_BYTES
from pipeline.media.input_video import probe

# PyAV imports these when it opens a container, which is when no file can be opened any more.
IMPORTED_LATE = ("av.audio.stream", "av.subtitles.stream", "av.video.stream")
MEMORY_BYTES = 4 << 30  # of address space; most of it is that of libraries
CPU_S = 60


def limit() -> None:
    """Limit what this process may use. It writes no file and opens no other one from here on."""
    for kind, most in (
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_CPU, CPU_S),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 3),
    ):
        resource.setrlimit(kind, (most, most))


def main() -> None:
    """Write size, frames and fps of the video, or why it is refused."""
    for name in IMPORTED_LATE:
        importlib.import_module(name)
    limit()
    try:
        answer = dataclasses.asdict(probe(sys.stdin.buffer.read(MAX_VIDEO_BYTES + 1)))
    except InputError as error:
        answer = {"refused": str(error).removeprefix(f"{error.field}: ")}
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()
