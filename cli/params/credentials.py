"""API keys and secrets, from a file or an environment variable.

There is no flag for them: other users of a machine can read the flags of a process.
"""

from __future__ import annotations

import base64
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path

from cli.params.groups import AccessGroup
from pipeline.errors import InputError
from proxy.settings import WebhookSettings

KEYS_VARIABLE = "TRITON_VIDEO_API_KEYS"
WEBHOOK_VARIABLE = "TRITON_VIDEO_WEBHOOK_SECRET"
WEBHOOK_PREFIX = "whsec_"
MIN_SECRET_BYTES = 16


def api_keys(access: AccessGroup, environment: Mapping[str, str]) -> list[str]:
    """Return the keys that clients may use; none if authentication is off.

    Raises ``InputError`` for a file without keys.
    """
    if not access.auth:
        return []
    if keys := filed_keys(access):
        return keys
    keys = [key.strip() for key in environment.get(KEYS_VARIABLE, "").split(",") if key.strip()]
    if not keys:
        keys = [f"sk-{secrets.token_urlsafe(24)}"]
        print(
            f"API key, generated for this run ({KEYS_VARIABLE} is not set): {keys[0]}",
            file=sys.stderr,
            flush=True,
        )
    return keys


def filed_keys(access: AccessGroup) -> list[str]:
    """Return the keys of the file, if one is set. Raises ``InputError`` for a file without keys."""
    if not access.api_keys_file or not access.auth:
        return []
    keys = _lines("api_keys_file", access.api_keys_file)
    if not keys:
        raise InputError(
            "api_keys_file", f"{access.api_keys_file} contains no key; write one key per line"
        )
    return keys


def webhook_secret(settings: WebhookSettings, environment: Mapping[str, str]) -> str | None:
    """Return the secret that signs the webhook's events; None without a webhook.

    Raises ``InputError`` for a URL or a secret that is not valid.
    """
    if settings.webhook_url is None:
        return None
    if settings.webhook_url.startswith("http://") and not settings.webhook_allow_private:
        raise InputError(
            "webhook_url", "should be https://...; http:// requires --webhook-allow-private"
        )
    if settings.webhook_secret_file:
        secret = next(iter(_lines("webhook_secret_file", settings.webhook_secret_file)), "")
    else:
        secret = environment.get(WEBHOOK_VARIABLE, "").strip()
    if not _is_secret(secret):
        raise InputError(
            "webhook_secret_file",
            f"no valid secret in this file or in {WEBHOOK_VARIABLE}; it must be {WEBHOOK_PREFIX} "
            f"and at least {MIN_SECRET_BYTES} bytes in base64",
        )
    return secret


def _is_secret(text: str) -> bool:
    try:
        secret = base64.b64decode(text.removeprefix(WEBHOOK_PREFIX), validate=True)
    except ValueError:
        return False
    return text.startswith(WEBHOOK_PREFIX) and len(secret) >= MIN_SECRET_BYTES


def _lines(field: str, file: Path) -> list[str]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(field, f"cannot be read: {error}") from None
    return [line.strip() for line in lines if line.strip()]
