"""Passwords in URLs, which must not reach a log or an error message."""

from __future__ import annotations

import re

_USER_INFO = re.compile(r"(?<=://)[^\s/?#'\"<>]*@")


def without_credentials(text: str) -> str:
    """``text`` with ``***@`` in place of the user and the password of each URL in it."""
    return _USER_INFO.sub("***@", text) if "://" in text else text
