"""Adds to openapi.json what FastAPI cannot see: bodies that routes read themselves, and errors."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel

from proxy.schema import ErrorAnswer

EVENT_STREAM = "text/event-stream"
BODY_DESCRIPTION = (
    "The fields are the same in both encodings. Numbers may be text, as in every form."
)


def _examples(values: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {name: {"summary": name, "value": value} for name, value in values.items()}


EXAMPLES = _examples(
    {
        "A prompt": {"prompt": "a red circle moves right on a white background"},
        "OpenAI's fields": {"prompt": "a red circle", "seconds": "4", "size": "1280x720"},
        "Sampling parameters": {
            "prompt": "a red circle",
            "num_frames": 17,
            "num_inference_steps": 20,
            "guidance_scale": 4,
            "seed": 7,
        },
        "A gateway's fields": {
            "prompt": "a red circle",
            "duration": 2,
            "aspect_ratio": "16:9",
            "resolution": "480p",
            "generate_audio": False,
            "metadata": {"run": "7"},
        },
    }
)
OF_VIDEO_EXAMPLES = _examples(
    {
        "A video of this server": {"prompt": "a blue circle", "video": {"id": "video_123"}},
        "Sampling parameters": {
            "prompt": "a blue circle",
            "video": {"id": "video_123"},
            "num_inference_steps": 20,
            "seed": 7,
        },
    }
)
IMAGE_EXAMPLES = _examples(
    {
        "A prompt": {"prompt": "a red circle on a white background"},
        "OpenAI's fields": {
            "prompt": "a red circle",
            "n": 2,
            "size": "1024x1024",
            "output_format": "webp",
            "quality": "auto",
        },
        "Sampling parameters": {"prompt": "a red circle", "num_inference_steps": 20, "seed": 7},
    }
)


def as_3_1(document: dict[str, Any]) -> dict[str, Any]:
    """Describe event streams in OpenAPI 3.1.

    FastAPI describes them in the words of 3.2, and the errors of their routes as events.
    """
    for path in document["paths"].values():
        for operation in path.values():
            for status, answer in operation["responses"].items():
                _describe_events(status, answer.get("content", {}))
    return document


def error_answers(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the ``responses`` of a route; ``default`` describes errors that any route may send."""
    named: dict[int | str, dict[str, Any]] = {
        status: {"model": ErrorAnswer, "description": HTTPStatus(status).phrase}
        for status in statuses
    }
    return {**named, "default": {"model": ErrorAnswer, "description": "Any other error"}}


QUEUEING_ERRORS = error_answers(400, 401, 404, 408, 409, 413, 415, 429, 503, 507)


def body_of(
    model: type[BaseModel],
    more: Mapping[str, Any],
    *,
    without: Collection[str] = (),
    required: Collection[str] = (),
    examples: Mapping[str, Any] = EXAMPLES,
) -> dict[str, Any]:
    """Return the ``openapi_extra`` of a route with a JSON or form body.

    The body has the fields of ``model``, but not those ``without``, and the properties ``more``, of
    which ``required`` are.
    """
    schema = model.model_json_schema()
    own = {name: field for name, field in schema["properties"].items() if name not in without}
    schema["properties"] = {**own, **more}
    schema["required"] = [*schema["required"], *required]
    form, json = (
        {**schema, "properties": {name: of(field) for name, field in schema["properties"].items()}}
        for of in (_of_a_form, _of_json)
    )
    content = {
        "application/json": {"schema": json, "examples": examples},
        "multipart/form-data": {"schema": form},
    }
    return {"requestBody": {"required": True, "description": BODY_DESCRIPTION, "content": content}}


def _describe_events(status: str, content: dict[str, Any]) -> None:
    described = content.pop(EVENT_STREAM, None)
    if described and status == "200":
        content[EVENT_STREAM] = {"schema": {"type": "string"}}
    elif described:
        content["application/json"] = described


def _of_a_form(field: dict[str, Any]) -> dict[str, Any]:
    """Describe a field of a form, which has no null: a field is left out instead. A list is JSON
    text.
    """
    kinds = [
        {"type": "string"} if kind.get("type") == "array" else kind
        for kind in field.get("anyOf", ())
        if kind != {"type": "null"}
    ]
    if len(kinds) != 1:
        return field
    return {key: value for key, value in field.items() if key not in ("anyOf", "default")} | kinds[
        0
    ]


def _of_json(field: dict[str, Any]) -> dict[str, Any]:
    """Describe a field of a JSON body, which holds no file."""
    kinds = [kind for kind in field.get("anyOf", ()) if kind.get("format") != "binary"]
    return {**field, "anyOf": kinds} if kinds else field
