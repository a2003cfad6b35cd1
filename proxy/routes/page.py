"""The page at ``/`` and the API reference at ``/docs``: static files that need no key."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

FOLDER = Path(__file__).resolve().parents[1] / "page"
MEDIA_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
PAGES = {"index.html": "/", "docs.html": "/docs"}
# Prompts and file names are text of strangers: the page runs its own scripts only, sets no HTML
# from text (Trusted Types without a policy), and sends nothing to other servers.
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",
        "media-src blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
HEADERS = {
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # Browsers ask each time, and get 304 until the server is updated.
    "cache-control": "no-cache",
}


def page_routes() -> Iterator[Route]:
    """Yield a route for each file, so that no path of a client names a file."""
    for file in sorted(FOLDER.iterdir()):
        if file.suffix in MEDIA_TYPES:
            yield _route(file)


def _route(file: Path) -> Route:
    body = file.read_bytes()
    headers = {**HEADERS, "etag": f'"{hashlib.sha256(body).hexdigest()[:32]}"'}

    async def answer(request: Request) -> Response:
        if headers["etag"] in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(body, headers=headers, media_type=MEDIA_TYPES[file.suffix])

    return Route(PAGES.get(file.name, f"/ui/{file.name}"), answer, methods=["GET"])
