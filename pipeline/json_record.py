"""Store settings and descriptions as JSON files beside a stage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from pipeline.errors import CheckpointError

Record = TypeVar("Record", bound=BaseModel)


def save_record(record: BaseModel, path: Path) -> None:
    path.write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")


def load_record(kind: type[Record], path: Path, what: str) -> Record:
    """Read a record of the class ``kind`` from the JSON file ``path``.

    Raises ``CheckpointError`` when it is missing, unreadable or invalid. The error names ``what``
    was expected, such as "a stage description".
    """
    try:
        return kind.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from None
    except (json.JSONDecodeError, UnicodeDecodeError, ValidationError) as error:
        raise CheckpointError(f"{path} is not {what}: {error}") from error
