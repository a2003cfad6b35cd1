"""The FastAPI application: routes, middleware, and the service that runs with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from pipeline.families import ModelInfo
from proxy import errors
from proxy.access_log import AccessLog
from proxy.context import Context
from proxy.intake import Intake
from proxy.keys import Keys
from proxy.links import Links, link_key
from proxy.openapi import as_3_1
from proxy.own_triton import OwnTriton
from proxy.rate_limit import RateLimit
from proxy.reference_images.reading import ReferenceImages
from proxy.request_files import FileReader
from proxy.routes import (
    content,
    events,
    images,
    of_videos,
    operation,
    page,
    sync,
    unsupported,
    videos,
)
from proxy.service import Service, running
from proxy.settings import ProxySettings
from proxy.streams import Streams
from proxy.triton_metrics import TritonMetrics
from proxy.tritons import Tritons
from proxy.videos import Videos

EXPOSED_HEADERS = (
    "x-request-id",
    "x-video-id",
    "openai-processing-ms",
    "openai-poll-after-ms",
    "retry-after",
    "content-range",
)


class Application(FastAPI):
    """The routes; ``context`` is set while the lifespan of the application runs."""

    context: Context

    def openapi(self) -> dict[str, Any]:
        return as_3_1(super().openapi())


def create_app(
    settings: ProxySettings,
    triton_urls: Sequence[str],
    keys: Iterable[str],
    webhook_secret: str | None = None,
    *,
    triton_token: str | None = None,
    own: OwnTriton | None = None,
    on_ready: Callable[[ModelInfo], None] = lambda _: None,
) -> Application:
    """Create the application in front of ``triton_urls``. Without ``keys`` it needs no key.

    Tritons on TCP require ``triton_token`` to cancel jobs. ``own`` is the Triton that this process
    starts. ``on_ready`` is called with the default model once a Triton can make a video.
    """

    @asynccontextmanager
    async def lifespan(app: Application) -> AsyncIterator[None]:
        service = running(
            settings, triton_urls, webhook_secret, triton_token, work=settings.worker, own=own
        )
        async with service as running_service:
            app.context = _context(running_service, settings, keys, own)
            telling = asyncio.create_task(_tell_ready(running_service.tritons, on_ready))
            try:
                yield
            finally:
                telling.cancel()

    # Not FastAPI's documentation pages, which load scripts from other servers. No redirects, which
    # lead to the address in the Host header, which the client chooses.
    app = Application(
        title="triton-video",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    errors.install(app)
    _add_middleware(app, settings)
    for module in (operation, unsupported, sync, of_videos, events, content, images, videos):
        # As they are: `include_router` would build each route again at the first request.
        app.router.routes.extend(module.router.routes)
    if settings.ui:
        app.router.routes.extend(page.page_routes())
    return app


def _context(
    service: Service, settings: ProxySettings, keys: Iterable[str], own: OwnTriton | None
) -> Context:
    return Context(
        service,
        Videos(service, settings, FileReader(ReferenceImages())),
        Keys(keys),
        RateLimit(settings.requests_per_minute),
        Streams(settings.max_streams, settings.max_streams_per_key),
        TritonMetrics(own),
        Links(link_key(settings), settings.link_ttl_s, settings.public_url),
    )


async def _tell_ready(tritons: Tritons, on_ready: Callable[[ModelInfo], None]) -> None:
    await tritons.ready.wait()
    on_ready(next(iter(tritons.models.values())))


def _add_middleware(app: Application, settings: ProxySettings) -> None:
    app.add_middleware(
        Intake,
        max_body_bytes=settings.max_body_bytes,
        max_held_bytes=settings.max_held_bytes,
        timeout_s=settings.body_timeout_s,
    )
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=EXPOSED_HEADERS,
        )
    app.add_middleware(AccessLog)
