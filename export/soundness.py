"""Check once that a checkpoint is what its class names say, before anything is exported, loaded or
served.

`Checkpoint.open` reads only configs and headers, without torch. Here its models are built without
memory for their weights and compared with the names, shapes and types of what is stored; its
scheduler, tokenizers and image processor are created and tried. All of it runs in a separate
process, ``python -m export.soundness CHECKPOINT SECONDS``, with limited time and memory, because
what a config or a tokenizer makes libraries do cannot be foreseen.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from export.cache import EXPORTERS, key, source_hash, versions
from export.child import bound_memory, bound_time, reason
from export.hashes import FileHashes
from pipeline.checkpoint.folder import Checkpoint
from pipeline.checkpoint.regular_files import READ_SUFFIXES, open_regular
from pipeline.checkpoint.weight_files import WEIGHT_NAMES, component_weights
from pipeline.errors import CheckpointError
from pipeline.system.parent import end_with
from pipeline.system.starting import Start, start_module

TIME_LIMIT_S = 120.0  # the largest published checkpoints take 5
MEMORY_BYTES = 8 << 30  # those take 1


class Check:
    """The check of one checkpoint in a separate process, which runs from here on."""

    def __init__(self, checkpoint: Path, mark: Path, start: Start, time_limit_s: float):
        """``mark`` is the file that notes a sound checkpoint."""
        self._checkpoint, self._mark, self._time_limit_s = checkpoint, mark, time_limit_s
        self._finished = False
        self._errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        self._process = start(
            "export.soundness", str(checkpoint), str(time_limit_s),
            stderr=self._errors.fileno(), turn="check",
        )  # fmt: skip

    def finish(self) -> None:
        """Wait for the result, or return at once if it is known. Raises ``CheckpointError`` with
        the reason.
        """
        if self._finished:
            return
        self._finished = True
        with self._errors:
            try:
                code = self._process.wait()
            except BaseException:
                self._process.kill()
                raise
            self._errors.seek(0)
            errors = self._errors.read()
        if code < 0:
            raise CheckpointError(self._violence(code), details=errors)
        if why := reason(code, errors):
            raise CheckpointError(why, details=errors)
        self._mark.parent.mkdir(parents=True, exist_ok=True)
        self._mark.touch()

    def _violence(self, code: int) -> str:
        name = f"{self._checkpoint} could not be checked"
        if code == -signal.SIGALRM:
            return (
                f"{name} within {self._time_limit_s:g} s: one of its configs or tokenizers takes "
                "more than any published model"
            )
        return (
            f"{name}: {signal.Signals(-code).name} ended the process; one of its configs or "
            f"tokenizers may take more than {MEMORY_BYTES >> 30} GiB of memory"
        )


def begin_check(
    checkpoint: Checkpoint,
    cache: Path,
    on_progress: Callable[[str], None] = lambda _: None,
    *,
    start: Start = start_module,
    time_limit_s: float = TIME_LIMIT_S,
) -> Check | None:
    """Begin to check the opened ``checkpoint``; return None if an earlier run has found it sound.

    ``start`` starts the process.
    """
    mark = cache / "sound" / _key(checkpoint, FileHashes(cache))
    if mark.exists():
        return None
    on_progress("checking the weights' names and shapes")
    return Check(checkpoint.path, mark, start, time_limit_s)


def require_sound(
    checkpoint: Checkpoint, cache: Path, on_progress: Callable[[str], None] = lambda _: None, *,
    time_limit_s: float = TIME_LIMIT_S,
) -> None:  # fmt: skip
    """Check the opened ``checkpoint``, unless an earlier run has. Raises ``CheckpointError`` with
    the reason.
    """
    if begun := begin_check(checkpoint, cache, on_progress, time_limit_s=time_limit_s):
        begun.finish()


def check(checkpoint: Checkpoint) -> None:
    """Run every check in this process. Raises ``CheckpointError`` with the first fault."""
    from export.trials import try_image_processor, try_scheduler, try_tokenizers
    from export.weights.comparing import compare
    from export.weights.plain import plain_model

    text_encoders = {part.component for part in checkpoint.family.text_encoders}
    vocabularies: dict[str, int] = {}
    for component, folder in (
        (name, checkpoint.path / name) for name in checkpoint.classes if name in WEIGHT_NAMES
    ):
        unused = (
            checkpoint.family.unused_weights if component in checkpoint.family.transformers else ()
        )
        model = plain_model(component, checkpoint.classes[component], folder)
        compare(model, folder, unused)
        if component in text_encoders:
            vocabularies[component] = model.config.vocab_size
    try_scheduler(checkpoint)
    try_tokenizers(checkpoint, vocabularies)
    try_image_processor(checkpoint)


def _key(checkpoint: Checkpoint, hashes: FileHashes) -> str:
    """Return a key that changes with what is checked: small files, the headers of large ones,
    libraries and our own code.
    """
    known = [checkpoint.family.name, source_hash("export", "pipeline")]
    known += (
        f"{name} {version}"
        for name, version in versions(*EXPORTERS, "tokenizers", "sentencepiece").items()
    )
    known += (f"{name} {kind}" for name, kind in checkpoint.classes.items())
    known.append(checkpoint.info.model_dump_json(exclude={"name"}))
    for component in checkpoint.family.components:
        for file in sorted((checkpoint.path / component).iterdir()):
            if file.suffix in READ_SUFFIXES and file.suffix != ".safetensors" and file.is_file():
                known.append(f"{component}/{file.name} {hashes.of(file)}")
        known += (
            f"{component}/{file.name} {_header(file)}"
            for file in component_weights(checkpoint.path, component)
        )
    return key(*known)


def _header(file: Path) -> str:
    with open_regular(file) as opened:
        length = int.from_bytes(opened.read(8), "little")
        header = opened.read(length).decode(errors="replace")
        return f"{os.fstat(opened.fileno()).st_size} {key(header)}"


def main(checkpoint: Path, time_limit_s: float, parent: int) -> None:
    end_with(parent)
    bound_time(time_limit_s)
    bound_memory(MEMORY_BYTES)
    try:
        check(Checkpoint.open(checkpoint))
    except MemoryError:
        raise CheckpointError(
            f"{checkpoint} cannot be checked in {MEMORY_BYTES >> 30} GiB of memory"
        ) from None


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
