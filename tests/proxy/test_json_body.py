"""Bodies that arrive in pieces: their long data URL, and their bounds."""

from __future__ import annotations

import json
from base64 import b64encode
from urllib.parse import parse_qsl, quote, quote_plus

import pytest

from proxy.data_url import LONG_TEXT_BYTES, MAX_TEXT_BYTES
from proxy.errors import ApiError
from proxy.json_body import MAX_VALUES, JsonPieces, TooManyValuesError, parse_json
from proxy.urlencoded import UrlencodedPieces

URL = "data:image/png;base64," + b64encode(bytes(range(256)) * 300).decode()
SIZES = (1, 2, 3, 5, 7, 1000, 65_536)


def fed(pieces: JsonPieces | UrlencodedPieces, text: bytes, size: int) -> bytes:
    """Return the value and the data URL of ``text``, fed in pieces of ``size`` bytes."""
    return b"".join(pieces.feed(text[start : start + size]) for start in range(0, len(text), size))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "escape",
    [lambda text: text, lambda text: text.replace("/", r"\/"),
     lambda text: text.replace("+", r"\u002B").replace("=", r"\u003d").replace("/", r"\u002f")],
)  # fmt: skip
def test_long_data_url_is_cut_out_of_json(size: int, escape) -> None:
    text = r'{"a": "x\\\"y\\", "image_url": "URL", "b": "\\"}'.replace("URL", escape(URL))
    pieces = JsonPieces()
    assert fed(pieces, text.encode(), size) == URL.encode()
    (mark,) = pieces.urls.starts
    assert pieces.value() == {"a": 'x\\"y\\', "image_url": mark, "b": "\\"}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "encode", [quote_plus, lambda text: quote(text, safe="/:;,=").lower().replace("%2b", "%2B")]
)
@pytest.mark.parametrize("last", [False, True])
def test_long_data_url_is_cut_out_of_a_form(size: int, encode, last: bool) -> None:
    url = URL.lower() if encode is not quote_plus else URL
    fields = ["prompt=a+b%26", f"input_reference%5bimage_url%5D={encode(url)}", "seed=1"]
    if last:
        fields[1:] = reversed(fields[1:])
    pieces = UrlencodedPieces()
    cut = fed(pieces, "&".join(fields).encode(), size)
    values, rest = pieces.fields()
    assert (cut + rest).decode() == url
    (mark,) = pieces.urls.starts
    assert dict(values) == {
        "prompt": "a b&",
        "input_reference[image_url]": mark,
        "seed": "1",
    }


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "value",
    [
        {},
        {"a": [1, {"b": "\\\\"}], "é": "\U0001f600" * 9},
        {"p": 'say "data:' + "x" * 40_000},
        {"u": URL[:60_000]},
    ],
)
def test_short_values_are_unchanged(size: int, value: object) -> None:
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False)):
        pieces = JsonPieces()
        assert fed(pieces, text.encode(), size) == b""
        assert pieces.value() == value
        assert parse_json(text) == value


@pytest.mark.parametrize("size", SIZES)
def test_two_data_urls_are_cut_out(size: int) -> None:
    other = URL.replace("A", "B") + "AAAA"
    pieces = JsonPieces()
    assert fed(pieces, json.dumps([URL, "x", other, URL]).encode(), size) == (URL + other).encode()
    first, second = pieces.urls.starts
    assert pieces.value() == [first, "x", second, URL]
    assert pieces.urls.starts == {first: 0, second: len(URL)}


@pytest.mark.parametrize("size", SIZES)
def test_two_data_urls_are_cut_out_of_a_form(size: int) -> None:
    other = URL.replace("A", "B") + "AAAA"
    text = f"last_frame={quote_plus(URL)}&seed=1&input_reference={quote_plus(other)}"
    pieces = UrlencodedPieces()
    cut = fed(pieces, text.encode(), size)
    values, rest = pieces.fields()
    assert cut + rest == (URL + other).encode()
    first, second = pieces.urls.starts
    assert dict(values) == {"last_frame": first, "seed": "1", "input_reference": second}
    assert pieces.urls.starts == {first: 0, second: len(URL)}


@pytest.mark.parametrize("bad", [" ", r"\n", r"\"", "é", r"\u0041"])
def test_invalid_characters_stay_in_a_data_url(bad: str) -> None:
    url, pieces = f"data:{'A' * LONG_TEXT_BYTES}{bad}", JsonPieces()
    assert fed(pieces, f'{{"x": "{url}"}}'.encode(), 1000) == url.encode()


def test_text_and_values_are_bounded() -> None:
    with pytest.raises(ApiError, match=f"up to {MAX_TEXT_BYTES} bytes"):
        fed(JsonPieces(), b'{"prompt": "' + b"x" * MAX_TEXT_BYTES, 65_536)
    with pytest.raises(ApiError, match=f"up to {MAX_TEXT_BYTES} bytes"):
        fed(UrlencodedPieces(), b"prompt=" + b"x" * MAX_TEXT_BYTES, 65_536)
    for text in (
        "[" + "0," * MAX_VALUES,
        "[" * (MAX_VALUES + 1),
        '""' * (MAX_VALUES + 1),
        "{" * (MAX_VALUES + 1),
    ):
        with pytest.raises(TooManyValuesError, match=f"up to {MAX_VALUES}"):
            parse_json(text)
    assert parse_json(json.dumps(["x,[{"] * (MAX_VALUES // 2 - 1))), (
        "text inside strings counts as no value"
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{"a',
        '"\\',
        '{"a": 1}}',
        "[NaN]",
        "[1e999",
        "\ufeff[",
        '{"a": 1, "a": 2}',
        "[" * 1500,
    ],
)
def test_invalid_json_is_refused(text: str) -> None:
    pieces = JsonPieces()
    pieces.feed(text.encode())
    with pytest.raises((ValueError, ApiError)):
        pieces.value()


@pytest.mark.parametrize(
    "text", ["a=1&b=2", "a=&=b&c", "a=%e9", "", "&&a=1", "a=1;b=2", "a==&b=%", "é=ü"]
)
def test_short_form_is_parsed(text: str) -> None:
    pieces = UrlencodedPieces()
    fed(pieces, text.encode(), 2)
    if "%e9" in text:
        with pytest.raises(UnicodeError):
            pieces.fields()
    else:
        assert pieces.fields() == (parse_qsl(text, keep_blank_values=True, errors="strict"), b"")
