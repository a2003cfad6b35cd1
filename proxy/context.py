"""What the routes work with; one per app."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request

from pipeline.client.aio import AsyncVideoClient
from pipeline.spec import ModelInfo
from proxy.files import VideoFiles
from proxy.jobs.store import JobStore
from proxy.worker import Worker


@dataclass
class Context:
    """``model`` is ``None`` until a Triton has answered for the first time."""

    jobs: JobStore
    files: VideoFiles
    triton: AsyncVideoClient
    worker: Worker
    model: ModelInfo | None = None


def context(request: Request) -> Context:
    """A dependency: the app's context."""
    return request.app.state.context
