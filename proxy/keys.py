"""API keys. Only hashes are kept; all are compared, so that timing reveals nothing."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from http import HTTPStatus

from proxy.errors import ApiError

ANYONE = "anyone"


class Keys:
    """The accepted keys. Without any, every request is accepted, with one owner for all."""

    def __init__(self, keys: Iterable[str]):
        self._hashes = [_hash(key) for key in keys]

    def owner(self, authorization: str | None) -> str:
        """Return the owner for a header ``Authorization``. Raises ``ApiError`` 401."""
        if not self._hashes:
            return ANYONE
        scheme, _, key = (authorization or "").partition(" ")
        given = _hash(key.strip())
        known = [hmac.compare_digest(given, other) for other in self._hashes]
        if scheme.lower() != "bearer" or not any(known):
            raise ApiError(
                HTTPStatus.UNAUTHORIZED,
                "Incorrect API key provided."
                if key
                else "You didn't provide an API key: Authorization: Bearer KEY.",
                code="invalid_api_key",
                headers={"www-authenticate": "Bearer"},
            )
        return given.hex()[:32]


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
