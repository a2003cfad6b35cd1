"""Previews of the videos that this process makes, in memory only."""

from __future__ import annotations

from collections.abc import Callable


class Previews:
    """Keeps the newest preview of each running video, a WebP image of at most 32 KiB."""

    def __init__(self) -> None:
        self._newest: dict[str, bytes] = {}
        self._listeners: list[Callable[[str], None]] = []

    def add_listener(self, listener: Callable[[str], None]) -> None:
        """Call ``listener`` with the id of each video that has a new preview."""
        self._listeners.append(listener)

    def put(self, video_id: str, webp: bytes) -> None:
        self._newest[video_id] = webp
        for listener in self._listeners:
            listener(video_id)

    def newest(self, video_id: str) -> bytes | None:
        return self._newest.get(video_id)

    def drop(self, video_id: str) -> None:
        """Forget the preview of a video that this process makes no more."""
        self._newest.pop(video_id, None)
