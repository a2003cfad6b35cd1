"""The inventory of a folder in the cache: ``files.json`` has the hash of every file in it."""

from __future__ import annotations

import json
from pathlib import Path

from export.hashes import FileHashes

FILE_NAME = "files.json"


def write_inventory(folder: Path, hashes: FileHashes) -> None:
    """Write the inventory of ``folder`` as its last file."""
    found = {
        str(file.relative_to(folder)): hashes.of(file)
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
    (folder / FILE_NAME).write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def is_whole(folder: Path, hashes: FileHashes) -> bool:
    """Return whether every file of the inventory exists and is unchanged."""
    try:
        found: dict[str, str] = json.loads((folder / FILE_NAME).read_text(encoding="utf-8"))
        return all(hashes.of(folder / name) == known for name, known in found.items())
    except (OSError, ValueError):
        return False
