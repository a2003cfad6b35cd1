"""Export the parts of a model repository from a checkpoint, and keep them in a cache from run to
run.

A separate process makes each part (`export.part_process`): parts are made in parallel, torch's
memory is freed when they end, and a finished part stays whatever happens to the others.
"""

from __future__ import annotations

import selectors
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock

from export.cache import EXPORTERS, Claim, key, source_hash, versions
from export.child import Child, reason
from export.hashes import FileHashes
from export.inventory import is_whole, write_inventory
from export.options import ExportOptions
from export.tensorrt import compilers
from pipeline.checkpoint.folder import Checkpoint
from pipeline.checkpoint.regular_files import READ_SUFFIXES
from pipeline.errors import CheckpointError
from pipeline.families.parts import Part
from pipeline.system.starting import Start, start_module

RETRY_S = 0.2  # seconds between two looks at a part that another process makes
EXPORTED = "exported"
Progress = Callable[[str, str], None]
"""Called with the name of a part and what is being done to it, `EXPORTED` at the end."""


def parts_of(
    checkpoint: Checkpoint, options: ExportOptions, cache: Path, hashes: FileHashes
) -> dict[Part, Path]:
    """Return the folder of each part in the cache, whether it exists yet or not.

    The name of a folder is a hash of everything the part is made from: contents of the component's
    files, options, sizes of profiles, versions of the exporters and our own code.
    """
    code = key(
        source_hash("export", "pipeline/families"),
        *(f"{k} {v}" for k, v in versions(*EXPORTERS).items()),
    )
    info = checkpoint.info.model_dump_json(exclude={"name"})
    parts: dict[Part, Path] = {}
    for part in checkpoint.family.parts:
        files = [
            f"{file.relative_to(checkpoint.path)} {hashes.of(file)}"
            for file in source_files(checkpoint, part)
        ]
        found = key(code, info, *files, *options.concerning(part), *compilers(options))
        parts[part] = cache / "parts" / f"{part.name}-{found}"
    return parts


def source_files(checkpoint: Checkpoint, part: Part) -> list[Path]:
    """Return the checkpoint's files that the part is made from: its component's and its
    preprocessor's.
    """
    folders = [part.component, *([part.preprocessor] if part.preprocessor else [])]
    return [file for folder in folders for file in files_in(checkpoint.path / folder)]


def files_in(folder: Path) -> list[Path]:
    """Return the files of a component's folder that are read."""
    return sorted(
        file for file in folder.glob("*") if file.suffix in READ_SUFFIXES and file.is_file()
    )


def make_parts(
    checkpoint: Path,
    parts: Mapping[Part, Path],
    options: ExportOptions,
    hashes: FileHashes,
    on_progress: Progress,
    start: Start = start_module,
) -> None:
    """Fill each folder of ``parts`` that does not exist, or wait until another process has filled
    it. ``start`` starts the process of each part.

    Raises ``CheckpointError`` with the reason of the first part that fails, and stops the others.
    """
    for target in parts.values():
        _sweep_damaged(target, hashes)
    waiting = {part: target for part, target in parts.items() if not target.exists()}
    with _Workshop(checkpoint, options, hashes, on_progress, start) as work:
        while waiting or work.busy:
            for part, target in list(waiting.items()):
                if work.begin(part, target) or target.exists():
                    del waiting[part]
            if waiting or work.busy:
                work.attend(RETRY_S if waiting else None)


def _sweep_damaged(target: Path, hashes: FileHashes) -> None:
    """Remove a damaged part. A repository may share files with the cache, so an edit there must not
    reach the next repository.
    """
    if not target.exists() or is_whole(target, hashes):
        return
    with FileLock(target.parent / f"{target.name}.lock"):
        if target.exists() and not is_whole(target, hashes):
            shutil.rmtree(target)


class _Workshop:
    """The child processes that make parts. On exit those still running are killed and their folders
    removed.
    """

    def __init__(
        self,
        checkpoint: Path,
        options: ExportOptions,
        hashes: FileHashes,
        on_progress: Progress,
        start: Start,
    ):
        self._checkpoint, self._options, self._on_progress = checkpoint, options, on_progress
        self._hashes, self._start = hashes, start
        self._selector = selectors.DefaultSelector()
        self._work: dict[Child, tuple[Part, Claim, Path]] = {}
        self._awaited: set[Part] = set()

    @property
    def busy(self) -> bool:
        return bool(self._work)

    def begin(self, part: Part, target: Path) -> bool:
        """Start a child. Return False if another process makes the part, or it exists."""
        claim = Claim(target)
        folder = claim.acquire(wait=False)
        if folder is None:
            if part not in self._awaited and not target.exists():
                self._awaited.add(part)
                self._on_progress(part.name, "waiting for another export that makes it")
            return False
        # A part in torch has no graph: its tokenizer needs no import of torch.
        turn = "first" if self._options.in_torch(part) else "later"
        child = Child(
            part.name, self._checkpoint, folder, self._options, start=self._start, turn=turn
        )
        self._work[child] = (part, claim, folder)
        self._selector.register(child.output, selectors.EVENT_READ, child)
        self._on_progress(part.name, "starting")
        return True

    def attend(self, timeout: float | None) -> None:
        """Pass on what the children print, and publish the parts that are finished."""
        for selected, _ in self._selector.select(timeout):
            child: Child = selected.data
            part, claim, folder = self._work[child]
            for line in child.lines():
                self._on_progress(part.name, line)
            if child.at_end:
                self._selector.unregister(child.output)
                self._finish(child, part, claim, folder)

    def _finish(self, child: Child, part: Part, claim: Claim, folder: Path) -> None:
        del self._work[child]
        try:
            code, errors = child.wait()
            if why := reason(code, errors):
                raise CheckpointError(
                    f"the {part.name} of {self._checkpoint} cannot be exported: {why}",
                    details=errors,
                )
            write_inventory(folder, self._hashes)
            claim.publish(folder)
        except BaseException:
            claim.give_up(folder)
            raise
        self._on_progress(part.name, EXPORTED)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for child, (_, claim, folder) in self._work.items():
            child.kill()
            claim.give_up(folder)
        self._selector.close()
