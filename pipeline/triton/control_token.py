"""The secret that the ``control`` model asks for where Triton listens on TCP.

The server's process holds the SHA-256 digest only, so a stage cannot give the token away.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Mapping

DIGEST_VARIABLE = "TRITON_VIDEO_CONTROL_DIGEST"


def digest(token: str) -> str:
    """The SHA-256 digest of ``token``, in hexadecimal."""
    return hashlib.sha256(token.encode()).hexdigest()


def permits(token: str | None, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a control request with ``token`` may be answered. Without a digest every request
    may.
    """
    expected = environment.get(DIGEST_VARIABLE)
    return not expected or hmac.compare_digest(digest(token or ""), expected)
