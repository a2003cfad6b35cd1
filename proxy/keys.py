"""API keys: who asks. Only hashes are kept, and all are compared, so that time tells nothing."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from http import HTTPStatus
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from proxy.errors import ApiError

ANYONE = "anyone"
# For openapi.json only: it sends no error of ours.
SCHEME = HTTPBearer(auto_error=False, scheme_name="key", description="An API key of this server.")


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


def owner(request: Request, _: Annotated[object, Depends(SCHEME)] = None) -> str:
    """A dependency of every route but health: the owner of the request's key."""
    return request.app.state.keys.owner(request.headers.get("authorization"))


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
