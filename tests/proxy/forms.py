"""Multipart forms with the boundary ``x``, put together by hand."""

from __future__ import annotations

URL = "/v1/videos"
JSON, MULTIPART, URLENCODED = (
    "application/json",
    "multipart/form-data; boundary=x",
    "application/x-www-form-urlencoded",
)


def part(name: bytes, value: bytes = b"x", more: bytes = b"") -> bytes:
    return (
        b'--x\r\ncontent-disposition: form-data; name="'
        + name
        + b'"'
        + more
        + b"\r\n\r\n"
        + value
        + b"\r\n"
    )


PROMPT, FILE, END = part(b"prompt"), b'; filename="../../etc/passwd"', b"--x--\r\n"
