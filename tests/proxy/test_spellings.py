"""Fields of other servers and gateways: what is understood, and what is refused by name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxy.errors import ApiError
from proxy.fields import CreateVideo
from proxy.spellings import FOREIGN, PROPERTIES, REFUSED, understood

IMAGE = {"image_url": "https://example.com/x.png"}
COUNTS = ("n", "num_outputs_per_prompt")
FRAME = {"type": "image_url", "image_url": {"url": "data:,"}}
LAST = {**FRAME, "frame_type": "last_frame"}


def error_of(body: dict[str, Any]) -> tuple[str, str, str]:
    """Return the message, the field and the code of the error that ``body`` gives."""
    with pytest.raises(ApiError) as caught:
        understood({"prompt": "x", **body})
    error = caught.value.body["error"]
    assert isinstance(error, dict)
    return error["message"], error["param"], error["code"]


@pytest.mark.parametrize(
    ("sent", "own"),
    [
        ({"duration": 4}, {"seconds": 4}),
        ({"duration": "4", "seconds": 4.0}, {"seconds": "4"}),
        ({"extra_body": {"seed": 7}}, {"seed": 7}),
        ({"extra_body": '{"seed": 7}'}, {"seed": 7}),
        ({"extra_params": '{"seed": 7}', "seed": "7"}, {"seed": "7"}),
        ({"extra_body": {"extra_params": {"duration": 2}}}, {"seconds": 2}),
        ({"extra_body": None, "extra_params": {}}, {}),
        ({"video_params": {"width": 64, "height": 48}}, {"width": 64, "height": 48}),
        ({"image_reference": IMAGE}, {"input_reference": IMAGE}),
        ({"image_reference": json.dumps(IMAGE)}, {"input_reference": IMAGE}),
        ({"image_reference": [IMAGE], "input_reference": None}, {"input_reference": IMAGE}),
        ({"frame_images": [{**FRAME, "frame_type": "first_frame"}]}, {"input_reference": FRAME}),
        ({"frame_images": json.dumps([FRAME])}, {"input_reference": FRAME}),
        ({"frame_images": [LAST]}, {"last_frame": FRAME}),
        ({"frame_images": [LAST, FRAME]}, {"input_reference": FRAME, "last_frame": FRAME}),
        (
            {"last_frame": IMAGE, "frame_images": [FRAME]},
            {"input_reference": FRAME, "last_frame": IMAGE},
        ),
        ({"metadata": '{"run": "a"}'}, {"metadata": {"run": "a"}}),
        *[({name: value}, {}) for name in COUNTS for value in (1, "1", 1.0)],
        *[({"quality": value}, {}) for value in ("auto", "standard", "Standard", None)],
        *[({"generate_audio": value}, {}) for value in (False, "false", "False", None)],
        ({"sound_duration": 4, "frame_interpolation_exp": "1"}, {}),
        *[({name: None}, {}) for name in (*FOREIGN, *REFUSED)],
    ],
)
def test_field_is_understood(sent: dict[str, Any], own: dict[str, Any]) -> None:
    found = understood({"prompt": "x", **sent}).fields
    assert {name: value for name, value in found.items() if value is not None} == {
        "prompt": "x",
        **own,
    }


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("container", ["", "extra_body", "extra_params"])
def test_field_that_cannot_be_served_is_refused_by_name(name: str, container: str) -> None:
    body = {container: {name: "x"}} if container else {name: "x"}
    message, param, code = error_of(body)
    assert message == f"{name}: {REFUSED[name]}."
    assert (param, code) == (name, "unsupported_value")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[(name, value) for name in COUNTS for value in (2, 0, "2", True, [], 1.5)],
        *[("quality", value) for value in ("high", 1, "")],
        *[("response_format", value) for value in ("b64_json", {})],
        *[("generate_audio", value) for value in (True, "true", 0, "")],
        ("generate_sound", True),
        ("enable_frame_interpolation", True),
        ("frame_images", [{**FRAME, "frame_type": "middle"}]),
    ],
)
def test_value_that_asks_for_something_else_is_refused(name: str, value: Any) -> None:
    message, param, code = error_of({name: value})
    assert message.startswith(f"{name}: ")
    assert (param, code) == (name, "unsupported_value")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("image_reference", [IMAGE, IMAGE]),
        ("image_reference", "{"),
        ("frame_images", []),
        ("frame_images", [FRAME, FRAME]),
        ("frame_images", [{**FRAME, "frame_type": "last_frame"}] * 2),
        ("frame_images", "x"),
        ("frame_images", ["x"]),
        ("frame_images", 7),
        *[(name, value) for name in ("extra_body", "video_params") for value in (7, "x", [1])],
        ("metadata", "x"),
    ],
)
def test_field_of_a_wrong_form_is_named(name: str, value: Any) -> None:
    message, param, code = error_of({name: value})
    assert message.startswith(f"{name}: ")
    assert param == name
    assert code in ("invalid_type", "invalid_value")


@pytest.mark.parametrize(
    ("body", "param", "both"),
    [
        ({"seconds": 4, "duration": 5}, "duration", ("duration", "seconds")),
        ({"seed": 1, "extra_body": {"seed": 2}}, "seed", ("extra_body.seed", "seed")),
        (
            {"extra_body": {"duration": 1}, "extra_params": {"seconds": 2}},
            "seconds",
            ("extra_params.seconds", "extra_body.duration"),
        ),
        (
            {"input_reference": IMAGE, "image_reference": {"image_url": "https://example.com/y"}},
            "image_reference",
            ("image_reference", "input_reference"),
        ),
    ],
)
def test_two_fields_that_disagree_are_both_named(
    body: dict[str, Any], param: str, both: tuple[str, str]
) -> None:
    message, named, code = error_of(body)
    assert message == f"{both[0]} does not agree with {both[1]}; give one of them."
    assert (named, code) == (param, "invalid_value")


@pytest.mark.parametrize(
    "body",
    [
        {"extra_params": {"extra_params": {}}},
        {"extra_params": {"extra_body": {}}},
        {"extra_body": {"extra_params": {}}, "extra_params": {}},
    ],
)
def test_container_may_not_be_sent_twice_or_hold_an_earlier_one(body: dict[str, Any]) -> None:
    assert error_of(body)[2] == "invalid_value"


def test_no_field_is_declared_twice() -> None:
    own = CreateVideo.model_fields.keys()
    assert not own & PROPERTIES.keys()
    assert not own & REFUSED.keys()
    assert not PROPERTIES.keys() & REFUSED.keys()
    assert all(each.otherwise for each in FOREIGN.values() if each.harmless)
