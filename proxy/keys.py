"""API keys: who asks. Only hashes are kept, and all are compared, so that time tells nothing."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from http import HTTPStatus

from proxy.errors import ApiError

ANYONE = "anyone"


class Keys:
    """The keys that are let in; none at all means that everybody is, as one owner."""

    def __init__(self, keys: Iterable[str]):
        self._hashes = [_hash(key) for key in keys]

    def owner(self, authorization: str | None) -> str:
        """The owner's name for what the header ``Authorization`` says. Raises ``ApiError`` 401."""
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
