"""The token that a Triton on TCP requires to cancel and list jobs.

`triton-video triton` and its clients share it. It comes from a file, otherwise from an environment
variable, otherwise from a file in the user's cache folder, which `triton-video triton` creates.
"""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Mapping, Sequence

from cli.params.groups import TokenGroup
from export.cache import open_cache
from pipeline.errors import InputError, OutputError
from pipeline.system.cache_folder import cache_folder
from pipeline.system.private import kept_secret

VARIABLE = "TRITON_VIDEO_TRITON_TOKEN"
FILE = "triton-token"
MIN_CHARACTERS = 16
_LOCAL = re.compile(r"unix:|(grpc://)?(localhost|127\.[0-9.]+|\[::1\]):")


def known_token(
    params: TokenGroup, urls: Sequence[str], environment: Mapping[str, str]
) -> str | None:
    """Return the token for the Tritons at ``urls``, or None.

    The token of the cache folder is used on this machine only. Raises ``InputError``.
    """
    return _configured(params, environment) or (_stored() if all(map(_LOCAL.match, urls)) else None)


def required_token(params: TokenGroup, environment: Mapping[str, str]) -> str:
    """Return the token to require; generated and stored for this user if there is none yet.

    Raises ``InputError`` if it is too short, and ``OutputError`` if it cannot be stored.
    """
    return _configured(params, environment) or _stored() or _generated()


def _configured(params: TokenGroup, environment: Mapping[str, str]) -> str | None:
    source, token = VARIABLE, environment.get(VARIABLE, "").strip()
    if params.triton_token_file:
        source = str(params.triton_token_file)
        try:
            token = params.triton_token_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError("triton_token_file", f"cannot be read: {error}") from None
    if params.triton_token_file or token:
        if len(token) < MIN_CHARACTERS:
            raise InputError(
                "triton_token_file", f"{source} must contain at least {MIN_CHARACTERS} characters"
            )
        return token
    return None


def _stored() -> str | None:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return (cache_folder() / FILE).read_text(encoding="utf-8").strip() or None
    return None


def _generated() -> str:
    """Generate and store a token; of two processes at the same time, both use the first one's."""
    path = cache_folder() / FILE
    try:
        open_cache()
        return kept_secret(path, secrets.token_urlsafe(32))
    except OSError as error:
        raise OutputError(
            f"the token cannot be stored in {path.parent}: {error.strerror}; set {VARIABLE}, or "
            "TRITON_VIDEO_CACHE to a writable folder"
        ) from None
