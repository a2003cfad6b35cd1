"""Render a model repository, and cache rendered ones so that a second run starts at once."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from export import inventory
from export.cache import building, key, link, open_cache, source_hash
from export.hashes import FileHashes
from export.options import ExportOptions, Flavour
from export.parts import EXPORTED, Progress, make_parts, parts_of, source_files
from export.records import COMPONENT_FILE, TOKENIZER_FILE
from export.soundness import Check, begin_check
from pipeline.byte_sizes import human_size
from pipeline.checkpoint.folder import CONFIG_NAMES, Checkpoint
from pipeline.ensemble.stages import DIT, STAGES, TOKENIZER
from pipeline.errors import CheckpointError
from pipeline.families.parts import Part
from pipeline.settings import StageSettings
from pipeline.system.own_modules import FOLDER
from pipeline.system.starting import Start, start_module

SOURCES = FOLDER / "model_repository"
RECORDS = (COMPONENT_FILE, inventory.FILE_NAME)
GRAPH_SUFFIXES = (".onnx", ".data", ".safetensors")


def prepare_repository(
    checkpoint: Checkpoint,
    settings: StageSettings,
    on_progress: Callable[[str], None],
    cache: Path | None = None,
    options: ExportOptions | None = None,
    *,
    start: Start = start_module,
    postpone: Callable[[Check], None] | None = None,
) -> Path:
    """Return the model repository for this checkpoint and these settings, rendered if the cache
    does not have it.

    ``start`` starts the processes. ``postpone`` gets the check of a checkpoint that is not known to
    be sound, where the repository has nothing of its weights: the caller must finish it before it
    uses them. Otherwise the check is finished first.

    Safe when several processes call it at once: one renders, the others wait. A folder in the cache
    is always complete. Raises ``CheckpointError`` if the checkpoint is not sound or a part cannot
    be exported.
    """
    cache, options = open_cache(cache), options or ExportOptions.of(settings)
    hashes = FileHashes(cache)
    check = begin_check(checkpoint, cache, on_progress, start=start)
    parts = parts_of(checkpoint, options, cache, hashes)
    if check and postpone and _all_graphs(parts, options):
        postpone(check)
    elif check:
        check.finish()
    repository = cache / "repositories" / _name(checkpoint, settings, parts, options)
    if repository.exists():
        return repository
    if not _all_graphs(parts, options):
        on_progress(f"exporting {_amount(checkpoint, parts)} to ONNX, once per checkpoint")
    try:
        make_parts(checkpoint.path, parts, options, hashes, _numbered(parts, on_progress), start)
    except CheckpointError:
        if check:
            check.finish()  # its reason says more
        raise
    with building(repository) as folder:
        if folder:
            render_repository(checkpoint, settings, parts, folder, options.flavour)
    return repository


def _name(
    checkpoint: Checkpoint,
    settings: StageSettings,
    parts: Mapping[Part, Path],
    options: ExportOptions,
) -> str:
    """Return the name of a rendered repository in the cache, which changes with its content."""
    return key(
        *(part.name for part in parts.values()),
        settings.model_dump_json(),
        options.model_dump_json(),
        checkpoint.info.model_dump_json(),
        source_hash("export", "model_repository"),
    )


def has_graphs(checkpoint: Checkpoint, settings: StageSettings, cache: Path | None = None) -> bool:
    """Return whether the cache has every graph of this checkpoint that the settings need."""
    cache, options = open_cache(cache), ExportOptions.of(settings)
    parts = parts_of(checkpoint, options, cache, FileHashes(cache))
    return _all_graphs(parts, options)


def _all_graphs(parts: Mapping[Part, Path], options: ExportOptions) -> bool:
    return all(path.exists() or options.in_torch(part) for part, path in parts.items())


def _amount(checkpoint: Checkpoint, parts: Mapping[Part, Path]) -> str:
    """Return how much there is to export: "2 parts with 11.2 GB of weights"."""
    new = [part for part, folder in parts.items() if not folder.exists()]
    files = {file for part in new for file in source_files(checkpoint, part)}
    size = sum(file.stat().st_size for file in files)
    return f"{len(new)} part{'s' * (len(new) != 1)} with {human_size(size)} of weights"


def _numbered(parts: Mapping[Part, Path], on_progress: Callable[[str], None]) -> Progress:
    """Return what reports work on a part as "part 2 of 3: vae_decoder: exported after 41 s"."""
    new = [part.name for part, folder in parts.items() if not folder.exists()]
    began = time.monotonic()

    def report(part: str, text: str) -> None:
        if part not in new:  # it was damaged
            new.append(part)
        if text == EXPORTED:
            text = f"{text} after {time.monotonic() - began:.0f} s"
        on_progress(f"part {new.index(part) + 1} of {len(new)}: {part}: {text}")

    return report


def render_repository(
    checkpoint: Checkpoint,
    settings: StageSettings,
    parts: Mapping[Part, Path],
    output: Path,
    flavour: Flavour = "python",
) -> None:
    """Write a whole model repository into the existing folder ``output``: configs, code, graphs and
    settings.
    """
    # It imports grpc, which a run that finds all in the cache does not need.
    from export.configs import config_text, stage_configs

    code = {stage.name: stage.code for stage in STAGES}
    info = checkpoint.info.model_copy(update={"loras": settings.served_loras})
    if settings.step_cache_table:
        info = info.model_copy(update={"step_cache": True})
    for name, config in stage_configs(info, flavour).items():
        folder = output / name / "1"
        folder.mkdir(parents=True)
        (output / name / "config.pbtxt").write_text(config_text(config), encoding="utf-8")
        if config.backend == "python":
            shutil.copyfile(SOURCES / code[name] / "1" / "model.py", folder / "model.py")
            info.bounded(settings.bounds).save(folder)
            settings.save(folder)
    for part, folder in parts.items():
        for file in folder.iterdir():
            if _is_served(file.name, flavour):
                target = _place(output, part, file.name)
                target.parent.mkdir(parents=True, exist_ok=True)
                link(file, target)


def part_folder(repository: Path, part: str) -> Path:
    """Return the folder of the part's graphs in a repository: the version folder of its stage.

    A part that no stage of this version runs has a folder below that of ``dit``, because Triton
    would take a separate one for a model.
    """
    served = (repository / part / "config.pbtxt").exists()
    return repository / part / "1" if served else repository / DIT.name / "1" / part


def _place(repository: Path, part: Part, file: str) -> Path:
    """Return where a file of the part goes. Tokenizers and image processors go to the stage that
    tokenizes.
    """
    if file == CONFIG_NAMES["image_processor"]:
        return repository / TOKENIZER.name / "1" / file
    if file == TOKENIZER_FILE:
        return repository / TOKENIZER.name / "1" / f"{part.preprocessor}.json"
    return part_folder(repository, part.name) / file


def _is_served(file: str, flavour: Flavour) -> bool:
    """Return whether a file is served. Engines are built from graphs: where those are served, the
    graphs are not.
    """
    return file not in RECORDS and not (flavour == "tensorrt" and file.endswith(GRAPH_SUFFIXES))
