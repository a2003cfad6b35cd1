"""Locate checkpoints: a local folder, or ``Org/Name`` or ``Org/Name@revision`` on a hub.

huggingface_hub downloads them and reads its usual settings: ``HF_ENDPOINT``, ``HF_HOME``,
``HF_HUB_OFFLINE``, ``HF_TOKEN``. Only the files that a known family needs are downloaded, and
pickles only with ``allow_pickle``.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.byte_sizes import human_size
from pipeline.checkpoint.folder import DEFAULTS_FILE, Checkpoint
from pipeline.checkpoint.folder_kinds import instead_of_weights, kind_of_names
from pipeline.checkpoint.regular_files import read_json
from pipeline.checkpoint.weight_files import WEIGHT_NAMES
from pipeline.errors import CheckpointError, InputError, OutputError
from pipeline.families import Family, family_of
from pipeline.families.step_cache.table import FILE_NAME as STEP_CACHE_FILE

if TYPE_CHECKING:
    from pipeline.checkpoint.hub_client import Guard

_NAME = r"[A-Za-z0-9][\w.-]*"
_ID = re.compile(rf"(?P<repository>{_NAME}/{_NAME})(@(?P<revision>[\w./-]+))?")
WEIGHTS = (".safetensors", ".bin")
MAX_LISTED = 1000  # files listed to find out what a repository holds
SUFFIXES = ("json", "txt", "model", "safetensors")
VARIANTS = ("*.fp16.*", "*.fp16-*", "*.bf16.*", "*.non_ema.*")  # duplicates of the loaded weights
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Origin:
    """A checkpoint folder, and where on a hub it came from; ``revision`` is a commit."""

    path: Path
    repository: str | None = None
    revision: str | None = None

    def open(self) -> Checkpoint:
        """Read and check the checkpoint. One from a hub is named after its repository.

        Raises ``CheckpointError``.
        """
        checkpoint = Checkpoint.open(self.path)
        if self.repository is None:
            return checkpoint
        name = self.repository.rpartition("/")[2]
        return replace(checkpoint, info=checkpoint.info.model_copy(update={"name": name}))


@dataclass(frozen=True)
class Download:
    """The files still to be downloaded into ``folder``: ``missing`` maps each component, or file of
    the root, to its bytes.
    """

    repository: str
    revision: str
    folder: Path
    missing: Mapping[str, int]

    @property
    def total(self) -> int:
        return sum(self.missing.values())

    def described(self) -> dict[str, object]:
        """Return the download as a JSON object."""
        return {
            "download": {
                "repository": self.repository,
                "revision": self.revision,
                "folder": str(self.folder),
                "missing": dict(self.missing),
            }
        }

    def require_room(self) -> None:
        """Raise ``OutputError`` when the disk has too little free space."""
        folder = next(parent for parent in (self.folder, *self.folder.parents) if parent.exists())
        free = shutil.disk_usage(folder).free
        if free < self.total:
            raise OutputError(
                f"{self.folder} has {human_size(free)} free, and {self.repository} takes "
                f"{human_size(self.total)} "
                "more; free space, or set HF_HOME to a folder on another disk"
            )


def locate(
    model: Path,
    revision: str | None = None,
    on_progress: Progress = lambda _: None,
    *,
    allow_pickle: bool = False,
) -> Origin:
    """Return the folder of the checkpoint ``model``; download it from the hub unless it is cached.

    Raises ``CheckpointError`` when it is unavailable, ``InputError`` for a ``revision`` of a local
    folder, and ``OutputError`` when the disk has too little free space.
    """
    found = _hub_id(model, revision)
    if found is None:
        return Origin(model.expanduser().resolve())
    with _in_one_sentence(*found) as guard:
        download, family_patterns = _missing(*found, allow_pickle=allow_pickle)
        if download.total:
            download.require_room()
            guard.allow(download.total)
            on_progress(f"downloading {human_size(download.total)} from the hub")
        path = _snapshot(
            download.repository, revision=download.revision, allow_patterns=family_patterns
        )
    return Origin(Path(path), download.repository, download.revision)


def missing(
    model: Path, revision: str | None = None, *, allow_pickle: bool = False
) -> Download | None:
    """Return what `locate` would download; None for a local folder.

    Raises ``CheckpointError`` and ``InputError`` as `locate` does.
    """
    found = _hub_id(model, revision)
    if found is None:
        return None
    with _in_one_sentence(*found):
        return _missing(*found, allow_pickle=allow_pickle)[0]


def _hub_id(model: Path, revision: str | None) -> tuple[str, str | None] | None:
    """Return repository and revision of a name on the hub; None when ``model`` is a path.

    Raises ``InputError`` for a revision of a path, and for two different revisions.
    """
    found = None if model.expanduser().exists() else _ID.fullmatch(str(model))
    if found is None:
        if revision:
            raise InputError("revision", f"is of a repository on a hub, and {model} is a path")
        return None
    named = found["revision"]
    if named and revision and named != revision:
        raise InputError("revision", f"{revision} is not the {named} that --model-path names")
    return found["repository"], revision or named


def _missing(
    repository: str, revision: str | None, *, allow_pickle: bool
) -> tuple[Download, list[str]]:
    """Return the download, and the patterns of all files that the checkpoint needs."""
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import DryRunError

    index = Path(hf_hub_download(repository, "model_index.json", revision=revision))
    commit = index.parent.name
    # An unknown family is refused before anything large is downloaded.
    family = family_of(read_json(index))
    suffixes = (*SUFFIXES, "bin") if allow_pickle else SUFFIXES
    patterns = ["model_index.json", DEFAULTS_FILE, STEP_CACHE_FILE]
    patterns += [
        f"{component}/*.{suffix}" for component in family.components for suffix in suffixes
    ]
    sizes: dict[str, int] = {}
    # Offline, nothing can be listed: `locate` then uses the cached files if they are complete.
    with contextlib.suppress(DryRunError):
        listed = list(_snapshot(repository, revision=commit, allow_patterns=patterns, dry_run=True))
        _require_weights(repository, commit, [file.filename for file in listed], family)
        for file in listed:
            if file.will_download:
                name = file.filename.partition("/")[0]
                sizes[name] = sizes.get(name, 0) + file.file_size
    return Download(repository, commit, Path(constants.HF_HUB_CACHE), sizes), patterns


def _require_weights(repository: str, commit: str, listed: Sequence[str], family: Family) -> None:
    """Raise ``CheckpointError`` when a component has no weights that can be loaded.

    The error names what the component has instead.
    """
    for component in family.components:
        stem = WEIGHT_NAMES.get(component)
        if stem and not any(
            name.startswith(f"{component}/") and name.endswith(WEIGHTS) for name in listed
        ):
            instead = instead_of_weights(_names(repository, commit, component), stem)
            raise CheckpointError(
                f"{repository}: {component}/{stem}.safetensors is missing{instead}"
            )


def _names(repository: str, revision: str | None, folder: str = "") -> list[str]:
    """Return the names of at most `MAX_LISTED` files in a folder of a repository on the hub.

    The list is empty when the hub does not answer.
    """
    import httpx2
    from huggingface_hub import HfApi, errors

    tree = HfApi().list_repo_tree(repository, folder or None, revision=revision)
    with contextlib.suppress(errors.HfHubHTTPError, httpx2.HTTPError, OSError):
        return [
            Path(entry.path).name
            for entry in islice(tree, MAX_LISTED)
            if folder or "/" not in entry.path
        ]
    return []


def _snapshot(repository: str, **options: Any) -> Any:
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    quiet_before = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        return snapshot_download(repository, ignore_patterns=list(VARIANTS), **options)
    finally:
        if not quiet_before:
            enable_progress_bars()


@contextlib.contextmanager
def _in_one_sentence(repository: str, revision: str | None) -> Iterator[Guard]:
    """Run huggingface_hub with a guarded HTTP client inside the block.

    Raises its errors, which are whole paragraphs, as a ``CheckpointError`` of one sentence.
    """
    try:
        import httpx2
        from huggingface_hub import constants, errors

        from pipeline.checkpoint.hub_client import guarded
    except ImportError:
        raise CheckpointError(
            f"{repository} is not a folder here, and names on a hub need triton-video[export] "
            "installed"
        ) from None
    away = (
        errors.LocalEntryNotFoundError,
        errors.OfflineModeIsEnabled,
        errors.IncompleteSnapshotError,
    )
    try:
        with guarded() as guard:
            yield guard
    except away as error:
        where = f"{repository} is neither a folder here nor wholly in {constants.HF_HUB_CACHE}"
        reason = (
            "HF_HUB_OFFLINE is set"
            if constants.HF_HUB_OFFLINE
            else f"{constants.ENDPOINT} cannot be reached"
        )
        raise CheckpointError(f"{where}, and {reason}", details=str(error)) from None
    except errors.EntryNotFoundError:
        kind = kind_of_names(_names(repository, revision))
        more = f": {kind}" if kind else ""
        raise CheckpointError(
            f"{repository} has no model_index.json, so it is no Diffusers checkpoint{more}"
        ) from None
    except errors.HfHubHTTPError as error:
        raise CheckpointError(_refusal(error, repository, revision), details=str(error)) from None
    # ValueError: a file name that points outside the cache, or a response that is not JSON.
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise CheckpointError(
            f"{repository} could not be downloaded from {constants.ENDPOINT} to "
            f"{constants.HF_HUB_CACHE}: {reason}; "
            "run again to go on"
        ) from None


def _refusal(error: Any, repository: str, revision: str | None) -> str:
    """Return the error message for an HTTP error status of the hub."""
    from huggingface_hub import constants, errors

    hub = constants.ENDPOINT
    if isinstance(error, errors.GatedRepoError):
        return f"{repository} is gated: accept its terms at {hub}/{repository}, and set HF_TOKEN"
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            f"{repository} is neither a folder here nor on {hub}, "
            "unless it is private and HF_TOKEN is missing"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{repository} has no revision {revision}"
    return f"{hub} answered {error.response.status_code} for {repository}; try again"
