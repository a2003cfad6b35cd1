"""``/v1/videos/characters``: what no model of this server can do."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request
from starlette.exceptions import HTTPException

from proxy.body import read_body
from proxy.context import Key
from proxy.errors import ApiError
from proxy.openapi import error_answers

ALTERNATIVES = (
    "POST /v1/videos makes a video, and POST /v1/videos/{video_id}/remix one like it from another"
    " prompt."
)

router = APIRouter(
    prefix="/v1/videos",
    tags=["videos"],
    responses=error_answers(400, 401, 408, 413, 415, 503),
    dependencies=[Key],
)


@router.post("/characters", status_code=400)
async def create_character(request: Request) -> None:
    """Not supported: always 400."""
    await read_body(request)
    raise _unsupported("Making a character from a video")


@router.get("/characters/{character_id}", status_code=400)
async def retrieve_character(
    character_id: Annotated[  # noqa: ARG001 - part of the path
        str, Path(description="The character's id.")
    ],
) -> None:
    """Not supported: always 400."""
    raise _unsupported("Making a character from a video")


def _other_methods(_: Request) -> None:
    raise HTTPException(405)


for path in ("/edits", "/extensions", "/characters", "/sync"):
    # Without these the routes of a video would take the last word for its id.
    router.add_api_route(path, _other_methods, methods=["GET", "DELETE"], include_in_schema=False)


def _unsupported(what: str) -> ApiError:
    return ApiError(
        400,
        f"{what} is not supported. {ALTERNATIVES}",
        code="unsupported_operation",
        headers={"x-should-retry": "false"},
    )
