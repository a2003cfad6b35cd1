"""Names of output files, from the user or from the prompt."""

from __future__ import annotations

import re
import unicodedata
from pathlib import PurePath

EXTENSION = ".mp4"
MAX_BYTES = 255  # of one path component, on every common Linux file system
MAX_SLUG = 60
FALLBACK = "video"


def check_file_name(name: str) -> str:
    """Return the name with the extension ``.mp4``. Raises ``ValueError`` if it is not valid."""
    if "/" in name or "\\" in name:
        raise ValueError("should be a name without folders; set the folder with --output-path")
    if not name.isprintable():
        raise ValueError("should not contain control characters")
    if name.strip(". ").lower() in ("", EXTENSION.strip(".")):
        raise ValueError("should not be empty")
    # Letters after the dot are an extension ("clip.avi"); anything else is part of the name
    # ("take 1.5").
    extension = re.search(r"\.[A-Za-z][A-Za-z0-9]{0,4}$", name)
    if extension is None:
        name += EXTENSION
    elif extension[0].lower() != EXTENSION:
        raise ValueError(f"should end in {EXTENSION}, not in {extension[0]}")
    if len(name.encode()) > MAX_BYTES:
        raise ValueError(
            f"is too long: {len(name.encode())} bytes; at most {MAX_BYTES} are allowed"
        )
    return name


def slug(prompt: str) -> str:
    """Return the prompt's first words in lower-case ASCII, joined by dashes.

    The result has at most ``MAX_SLUG`` characters.
    """
    plain = unicodedata.normalize("NFKD", prompt[:1000]).encode("ascii", "ignore").decode()
    found = re.findall(r"[a-z0-9]+", plain.lower().replace("'", ""))
    text = "-".join(found)[: MAX_SLUG + 1]
    if len(text) > MAX_SLUG:
        text = text.rpartition("-")[0] or text[:MAX_SLUG]
    return text.strip("-") or FALLBACK


def numbered(stem: str, number: int) -> str:
    """Return ``stem`` for 1, ``stem-2`` for 2 and so on, cut so that the extension still fits."""
    suffix = "" if number == 1 else f"-{number}"
    return shortened(stem, MAX_BYTES - len(EXTENSION) - len(suffix)) + suffix


def shortened(text: str, limit: int) -> str:
    """Return ``text`` cut to at most ``limit`` bytes, never within a character."""
    return text.encode()[:limit].decode(errors="ignore")


def stem_of(name: str) -> str:
    """Return a file name without its extension."""
    return PurePath(name).stem
