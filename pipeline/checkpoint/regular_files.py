"""Read the files of an untrusted checkpoint: only regular files inside its folder, of limited
size.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from pipeline.errors import CheckpointError

MAX_JSON_BYTES = 8 << 20  # the index of a thousand shards has 1 MiB
MAX_TEXT_BYTES = 64 << 20  # vocabularies: a tokenizer.json of 256,000 tokens has 17 MiB
MAX_DEPTH = 32
MAX_FILES = 1000  # in one component's folder
TEMPLATES = "additional_chat_templates"  # transformers reads them, though none is ever applied
ROOT_FILES = ("model_index.json", "triton_video.json", "step_cache.json")
READ_SUFFIXES = (".json", ".safetensors", ".txt", ".model")
"""Suffixes of the files that are read. Pickles (``.bin``, ``.pt``) are not among them."""


@contextmanager
def open_regular(path: Path) -> Iterator[BinaryIO]:
    """Open ``path`` for reading. Never blocks, as opening a named pipe would.

    Raises ``CheckpointError`` when it is missing, cannot be opened or is a device, a pipe, a socket
    or a folder.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise CheckpointError(f"{path} cannot be read: {reason}") from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise CheckpointError(
            f"{path} is not a regular file; a checkpoint holds regular files only"
        )
    with os.fdopen(handle, "rb") as file:
        yield file


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in ``path``.

    Raises ``CheckpointError`` when the file is missing, not regular, larger than
    ``MAX_JSON_BYTES``, not JSON, nested deeper than ``MAX_DEPTH`` or not an object.
    """
    with open_regular(path) as file:
        text = file.read(MAX_JSON_BYTES + 1)
    if len(text) > MAX_JSON_BYTES:
        raise CheckpointError(
            f"{path} is too large for JSON of a checkpoint; at most {MAX_JSON_BYTES >> 20} MiB is "
            "read"
        )
    try:
        value = json.loads(text.decode())
    except RecursionError:
        raise CheckpointError(
            f"{path} is nested too deeply; at most {MAX_DEPTH} levels are read"
        ) from None
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} should hold a JSON object")
    if any(depth > MAX_DEPTH for depth, _, _ in nested(value)):
        raise CheckpointError(f"{path} is nested too deeply; at most {MAX_DEPTH} levels are read")
    return value


def nested(value: Any) -> Iterator[tuple[int, str, Any]]:
    """Yield depth, key and value of every value nested in a JSON value, itself included.

    An element of a list has the key of its list.
    """
    waiting: list[tuple[int, str, Any]] = [(0, "", value)]
    while waiting:
        depth, key, found = waiting.pop()
        yield depth, key, found
        if isinstance(found, dict):
            waiting += [(depth + 1, name, inner) for name, inner in found.items()]
        elif isinstance(found, list):
            waiting += [(depth + 1, key, inner) for inner in found]


def require_own_files(
    root: Path, components: Iterable[str], suffixes: Sequence[str] = READ_SUFFIXES
) -> None:
    """Check every file of the checkpoint folder ``root`` before any library reads it.

    Raises ``CheckpointError``, which names the first file that is not regular, is outside ``root``
    (symbolic links into the blobs of a hub's cache are allowed), or is not a weight file and larger
    than ``MAX_TEXT_BYTES``.
    """
    allowed = folders_read(root)
    files = [root / name for name in ROOT_FILES if os.path.lexists(root / name)]
    for folder in (root / name / inner for name in components for inner in ("", TEMPLATES)):
        require_inside(folder, allowed)
        files += [file for file in entries_of(folder) if file.suffix in (*suffixes, ".jinja")]
    for file in files:
        require_inside(file, allowed)
        _require_readable(file)


def folders_read(root: Path) -> list[Path]:
    """Return the folders that files of the checkpoint folder ``root`` may be in: itself, and the
    blobs of a hub's cache.
    """
    folders = [root.resolve()]
    # The files in a snapshot of huggingface_hub are links into the blobs folder beside it.
    if root.parent.name == "snapshots":
        folders.append(root.parent.parent.resolve() / "blobs")
    return folders


def entries_of(folder: Path) -> list[Path]:
    """Return the sorted entries of ``folder``; none if it is missing.

    Raises ``CheckpointError`` when it cannot be read or holds more than ``MAX_FILES``.
    """
    try:
        entries = sorted(islice(folder.iterdir(), MAX_FILES + 1)) if folder.exists() else []
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be read: {error.strerror}") from None
    if len(entries) > MAX_FILES:
        raise CheckpointError(f"{folder} holds too many files; at most {MAX_FILES} are read")
    return entries


def require_inside(path: Path, allowed: list[Path]) -> None:
    """Raise ``CheckpointError`` if ``path`` is a link out of the ``allowed`` folders."""
    real = Path(os.path.realpath(path))
    if not any(real.is_relative_to(folder) for folder in allowed):
        raise CheckpointError(
            f"{path} is a link to {real}, outside the checkpoint; copy the file into the folder, "
            "or make a hard link"
        )


def _require_readable(path: Path) -> None:
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
    if path.suffix not in (".safetensors", ".bin") and size > MAX_TEXT_BYTES:
        raise CheckpointError(
            f"{path} has {size} bytes; a file beside the weights has at most "
            f"{MAX_TEXT_BYTES >> 20} MiB"
        )
