"""The token that a Triton on TCP requires before it cancels or lists jobs.

`triton-video triton` and its callers must know the same one. It comes from a file, else from a
variable, else from a file in the user's cache folder, which `triton-video triton` makes at need.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Mapping, Sequence

from cli.params.groups import TokenGroup
from export.cache import cache_folder, open_cache
from pipeline.errors import InputError, OutputError

VARIABLE = "TRITON_VIDEO_TRITON_TOKEN"
FILE = "triton-token"
SHORTEST = 16  # characters
_LOCAL = re.compile(r"unix:|(grpc://)?(localhost|127\.[0-9.]+|\[::1\]):")


def known_token(
    params: TokenGroup, urls: Sequence[str], environment: Mapping[str, str]
) -> str | None:
    """The token to call the Tritons at ``urls`` with; None where there is none.

    The one of the cache folder stays on this machine. Raises ``InputError``.
    """
    return _given(params, environment) or (_kept() if all(map(_LOCAL.match, urls)) else None)


def required_token(params: TokenGroup, environment: Mapping[str, str]) -> str:
    """The token to require; made and kept for this user if there is none yet.

    Raises ``InputError`` for one that is too short, ``OutputError`` where none can be kept.
    """
    return _given(params, environment) or _kept() or _made()


def _given(params: TokenGroup, environment: Mapping[str, str]) -> str | None:
    source, token = VARIABLE, environment.get(VARIABLE, "").strip()
    if params.triton_token_file:
        source = str(params.triton_token_file)
        try:
            token = params.triton_token_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError("triton_token_file", f"cannot be read: {error}") from None
    if params.triton_token_file or token:
        if len(token) < SHORTEST:
            raise InputError(
                "triton_token_file", f"{source} must hold at least {SHORTEST} characters"
            )
        return token
    return None


def _kept() -> str | None:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return (cache_folder() / FILE).read_text(encoding="utf-8").strip() or None
    return None


def _made() -> str:
    """Another process may make one at the same time: the first one counts for both."""
    path = cache_folder() / FILE
    token = secrets.token_urlsafe(32)
    whole = path.with_name(f".{FILE}-{secrets.token_hex(8)}")
    try:
        open_cache()
        whole.touch(mode=0o600)
        whole.write_text(token, encoding="utf-8")
        with contextlib.suppress(FileExistsError):
            os.link(whole, path)
        whole.unlink()
    except OSError as error:
        raise OutputError(
            f"no token can be kept in {path.parent}: {error.strerror}; set {VARIABLE}, or TRITON_VIDEO_CACHE to a "
            "writable folder"
        ) from None
    return _kept() or token
