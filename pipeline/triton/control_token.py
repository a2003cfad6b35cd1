"""The secret that the ``control`` model requires if Triton listens on TCP.

The server's process has only the SHA-256 digest, so a stage cannot leak the token.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Mapping

DIGEST_VARIABLE = "TRITON_VIDEO_CONTROL_DIGEST"


def digest(token: str) -> str:
    """Return the SHA-256 digest of ``token`` in hexadecimal."""
    return hashlib.sha256(token.encode()).hexdigest()


def permits(token: str | None, environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether a control request with ``token`` is allowed. Without a digest every request
    is.
    """
    expected = environment.get(DIGEST_VARIABLE)
    return not expected or hmac.compare_digest(digest(token or ""), expected)
