"""API keys and secrets, from a file or an environment variable.

There is no flag for them: other users of a machine can read the flags of a process.
"""

from __future__ import annotations

import base64
import logging
import secrets
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cli.params.groups import AccessGroup
from pipeline.errors import InputError, OutputError
from pipeline.system.private import kept_secret
from proxy.settings import WebhookSettings

logger = logging.getLogger(__name__)

KEYS_VARIABLE = "TRITON_VIDEO_API_KEYS"
WEBHOOK_VARIABLE = "TRITON_VIDEO_WEBHOOK_SECRET"
WEBHOOK_PREFIX = "whsec_"
MIN_SECRET_BYTES = 16
KEY_FILE = "api-key"


@dataclass(frozen=True)
class ApiKeys:
    """The keys that clients may use, none if authentication is off.

    ``in_shell`` is what a shell replaces by one of them.
    """

    values: list[str]
    in_shell: str | None = None


def api_keys(access: AccessGroup, environment: Mapping[str, str], folder: Path | None) -> ApiKeys:
    """Return the keys of the file or the variable, otherwise one that is kept in ``folder``.

    Without a folder it is generated for this run. A generated key is logged when it is new. Raises
    ``InputError`` for a file without keys, and ``OutputError`` if the key cannot be kept.
    """
    if not access.auth:
        return ApiKeys([])
    if keys := filed_keys(access):
        return ApiKeys(keys, f"$(head -n 1 {shlex.quote(str(access.api_keys_file))})")
    keys = [key.strip() for key in environment.get(KEYS_VARIABLE, "").split(",") if key.strip()]
    if keys:
        return ApiKeys(keys, f"${{{KEYS_VARIABLE}%%,*}}")
    new = f"sk-{secrets.token_urlsafe(24)}"
    if folder is None:
        logger.warning("API key, generated for this run (%s is not set): %s", KEYS_VARIABLE, new)
        return ApiKeys([new], "$KEY")
    file = folder.absolute() / KEY_FILE
    try:
        key = kept_secret(file, new)
    except OSError as error:
        raise OutputError(
            f"the API key cannot be kept in {file}: {error.strerror}; set {KEYS_VARIABLE}"
        ) from None
    if key == new:
        logger.warning("API key, generated and kept in %s: %s", file, key)
    return ApiKeys([key], f"$(cat {shlex.quote(str(file))})")


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
