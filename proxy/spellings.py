"""Fields of other servers and gateways in a request, and what they mean here.

Every field of `FOREIGN` is another name of one of this server's, or asks for something that
happens anyway. The fields of `REFUSED` ask for what no model of this server can do.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from proxy.errors import Code, invalid
from proxy.field_names import CONTAINERS
from proxy.json_body import parse_json
from proxy.reference_images.parsing import (
    INPUT_REFERENCE,
    LAST_FRAME,
    frames_by_field,
    only_image,
)

SILENT = "the models of this server make silent videos"
OF_A_VIDEO = "send it as video to POST /v1/videos/edits or /v1/videos/extensions"
ONE_VIDEO = "a request makes one video; send it again for another"


@dataclass(frozen=True)
class Foreign:
    """A field of another API, with its JSON ``schema`` and ``description``.

    It is another name of the fields that ``convert`` makes of its name and value; or it has no
    effect, and only the ``harmless`` values are accepted, if there are any; others are
    refused with ``otherwise``.
    """

    schema: Mapping[str, Any]
    description: str
    convert: Callable[[str, Any], Mapping[str, Any]] | None = None
    harmless: tuple[str, ...] = ()
    otherwise: str = ""

    @property
    def documented(self) -> dict[str, Any]:
        """Its property in a JSON schema."""
        return {**self.schema, "description": self.description}

    def check(self, name: str, value: Any) -> None:
        """Raise ``ApiError`` 400 unless ``value`` asks for what happens anyway, or is None."""
        if value is not None and self.harmless and _text(value) not in self.harmless:
            raise invalid(name, f"{name}: {self.otherwise}.", "unsupported_value")


def only(values: tuple[Any, ...], otherwise: str) -> Foreign:
    """Return a field without effect that has one of ``values``, all of one type."""
    kinds = {bool: "boolean", int: "integer", str: "string"}
    return Foreign(
        {"type": kinds[type(values[0])], "enum": list(values)},
        "Accepted where it asks for what happens anyway.",
        harmless=tuple(map(_text, values)),
        otherwise=otherwise,
    )


def _ignored(what: str) -> Foreign:
    return Foreign({}, f"Without effect: it describes {what}, which is refused.")


def _text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip().lower()


IMAGE_OBJECT: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "image_url": {"anyOf": [{"type": "string"}, {"type": "object"}]},
        "file_id": {"type": "string"},
        "type": {"type": "string"},
    },
}
FOREIGN: Mapping[str, Foreign] = {
    "duration": Foreign(
        {"type": "number", "exclusiveMinimum": 0, "maximum": 3600},
        "The same as `seconds`.",
        convert=lambda _, value: {"seconds": value},
    ),
    "image_reference": Foreign(
        {"anyOf": [{"type": "string"}, IMAGE_OBJECT]},
        "The same as `input_reference`, as an object or its JSON text.",
        convert=lambda name, value: {INPUT_REFERENCE: only_image(name, value)},
    ),
    "frame_images": Foreign(
        {"type": "array", "items": {"type": "object"}},
        "An image with `frame_type` first_frame, the same as `input_reference`, and one with"
        " last_frame.",
        convert=frames_by_field,
    ),
    "n": only((1,), ONE_VIDEO),
    "num_outputs_per_prompt": only((1,), ONE_VIDEO),
    "quality": only(
        ("auto", "default", "standard"), "there is one quality; set num_inference_steps instead"
    ),
    "response_format": only(
        ("url", "mp4"), "the answer is a Video; GET /v1/videos/{video_id}/content sends the MP4"
    ),
    "generate_audio": only((False,), SILENT),
    "generate_sound": only((False,), SILENT),
    "sound_duration": _ignored("sound"),
    "enable_frame_interpolation": only(
        (False,), "frames are not interpolated; set num_frames or fps instead"
    ),
    "frame_interpolation_exp": _ignored("the interpolation of frames"),
    "frame_interpolation_scale": _ignored("the interpolation of frames"),
    "frame_interpolation_model_path": _ignored("the interpolation of frames"),
}
REFUSED: Mapping[str, str] = {
    "input_references": "not supported; a video can begin from one image (input_reference)",
    "reference_images": "not supported; a video can begin from one image (input_reference)",
    "video_reference": f"not supported here; {OF_A_VIDEO}",
    "video": f"not supported here; {OF_A_VIDEO}",
    "input_video": f"not supported; {OF_A_VIDEO}",
    "audio_reference": SILENT,
    "callback_url": "not supported; the operator of the server sets a webhook",
}

# Properties of a create request that are not fields of CreateVideo, for openapi.json.
PROPERTIES: Mapping[str, Any] = {
    INPUT_REFERENCE: {
        "description": "Reference image: a file in a form, its URL, or a data URL. Text-to-video"
        " models refuse it.",
        "anyOf": [{"type": "string", "format": "binary"}, {"type": "string"}, IMAGE_OBJECT],
    },
    LAST_FRAME: {
        "description": "The image that the video ends with, in the same forms. Models that cannot"
        " do this refuse it.",
        "anyOf": [{"type": "string", "format": "binary"}, {"type": "string"}, IMAGE_OBJECT],
    },
    "extra_params": {
        "type": "object",
        "description": "Any of these parameters, as at the top; in a form, as JSON text.",
    },
    "extra_body": {"type": "object", "description": "The same as `extra_params`."},
    "video_params": {"type": "object", "description": "The same as `extra_params`."},
    **{name: each.documented for name, each in FOREIGN.items()},
}


@dataclass
class Body:
    """The fields of a request under this server's names.

    ``sent`` has the client's name of each field, and ``paths`` that name with its container's.
    """

    fields: dict[str, Any] = dataclasses.field(default_factory=dict)
    sent: dict[str, str] = dataclasses.field(default_factory=dict)
    paths: dict[str, str] = dataclasses.field(default_factory=dict)

    def name(self, own: str) -> str:
        """Return the name under which the client sent the field ``own``, for errors."""
        return self.sent.get(own, own)

    def given(self, *names: str) -> bool:
        """Return whether one of the fields ``names`` has a value."""
        return any(self.fields.get(name) is not None for name in names)

    def add(self, name: str, value: Any, container: str = "") -> None:
        """Add a field that the client sent in ``container``. Raises ``ApiError`` 400."""
        foreign = FOREIGN.get(name)
        if value is not None and name in REFUSED:
            raise invalid(name, f"{name}: {REFUSED[name]}.", "unsupported_value")
        path = container + name
        if foreign is None:
            self._set(name, value, name, path)
        elif value is None:
            return
        elif foreign.convert:
            for own, converted in foreign.convert(name, value).items():
                self._set(own, converted, name, path)
        else:
            foreign.check(name, value)

    def _set(self, own: str, value: Any, name: str, path: str) -> None:
        earlier = self.fields.get(own)
        if earlier is None:
            self.fields[own], self.sent[own], self.paths[own] = value, name, path
        elif value is not None and not _agree(earlier, value):
            other = self.paths[own][:80]
            raise invalid(name[:80], f"{path[:80]} does not agree with {other}; give one of them.")


def understood(body: Mapping[str, Any]) -> Body:
    """Return the fields of a request's body under this server's names.

    Raises ``ApiError`` 400 for a field that cannot be served, and for two that disagree.
    """
    found, containers = Body(), {name: body[name] for name in CONTAINERS if name in body}
    for name, value in body.items():
        if name not in CONTAINERS:
            found.add(name, value)
    for container in CONTAINERS:
        for name, value in _object(container, containers.pop(container, None)).items():
            if name not in CONTAINERS:
                found.add(name, value, f"{container}.")
            elif name in containers or CONTAINERS.index(name) <= CONTAINERS.index(container):
                raise invalid(name, f"{name}: may not be inside {container} here.")
            else:
                containers[name] = value
    if isinstance(metadata := found.fields.get("metadata"), str):
        found.fields["metadata"] = _object("metadata", metadata)
    return found


def _object(name: str, value: Any) -> dict[str, Any]:
    """Return an object that may be JSON text; an empty one for None."""
    if isinstance(value, str):
        try:
            value = parse_json(value)
        except ValueError:
            why = f"{name}: not valid JSON, or too many values."
            raise invalid(name, why) from None
    if value is not None and not isinstance(value, dict):
        code: Code = "invalid_type"
        raise invalid(name, f"{name}: should be an object, or its JSON text.", code)
    return value or {}


def _agree(one: Any, other: Any) -> bool:
    """Return whether two values are the same: 4, 4.0 and "4" are."""
    try:
        return float(one) == float(other)
    except (TypeError, ValueError, OverflowError):
        return one == other
