"""Check once that a checkpoint is what its class names say, before anything is exported, loaded or
served.

`Checkpoint.open` reads only configs and headers, without torch. Here its models are built without
memory for their weights and compared with the names, shapes and types of what is stored; its
scheduler, tokenizers and image processor are created and tried. All of it runs in a separate
process, ``python -m export.soundness CHECKPOINT``, with limited time and memory, because what a
config or a tokenizer makes libraries do cannot be foreseen.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from export.cache import EXPORTERS, key, source_hash, versions
from export.child import bound_memory, reason
from export.hashes import FileHashes
from pipeline.checkpoint.folder import Checkpoint
from pipeline.checkpoint.regular_files import READ_SUFFIXES, open_regular
from pipeline.checkpoint.weight_files import WEIGHT_NAMES, component_weights
from pipeline.errors import CheckpointError
from pipeline.system.child_environment import child_environment
from pipeline.system.own_modules import FOLDER, command
from pipeline.system.parent import end_with

TIME_LIMIT_S = 120.0  # the largest published checkpoints take 5
MEMORY_BYTES = 8 << 30  # those take 1


def require_sound(
    checkpoint: Checkpoint, cache: Path, on_progress: Callable[[str], None] = lambda _: None, *,
    time_limit_s: float = TIME_LIMIT_S,
) -> None:  # fmt: skip
    """Check the opened ``checkpoint``, unless an earlier run has. Raises ``CheckpointError`` with
    the reason.
    """
    mark = cache / "sound" / _key(checkpoint, FileHashes(cache))
    if mark.exists():
        return
    on_progress("checking the weights' names and shapes")
    program = command("export.soundness", str(checkpoint.path), str(os.getpid()))
    try:
        done = subprocess.run(
            program, cwd=FOLDER, env=child_environment(os.environ), stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace",
            timeout=time_limit_s, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise CheckpointError(
            f"{checkpoint.path} could not be checked within {time_limit_s:g} s: one of its "
            "configs or tokenizers takes more than any published model"
        ) from None
    if done.returncode < 0:
        raise CheckpointError(
            f"{checkpoint.path} could not be checked: {signal.Signals(-done.returncode).name} "
            "ended the process; one of its configs or tokenizers may take more than "
            f"{MEMORY_BYTES >> 30} GiB of memory",
            details=done.stderr,
        )
    if why := reason(done.returncode, done.stderr):
        raise CheckpointError(why, details=done.stderr)
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()


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


def main(checkpoint: Path, parent: int) -> None:
    end_with(parent)
    bound_memory(MEMORY_BYTES)
    try:
        check(Checkpoint.open(checkpoint))
    except MemoryError:
        raise CheckpointError(
            f"{checkpoint} cannot be checked in {MEMORY_BYTES >> 30} GiB of memory"
        ) from None


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
