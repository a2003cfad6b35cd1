"""Writes docs/memory-table.md: which published models fit on which GPU, and with which flags.

    python -m scripts.memory_table

A test fails when the page is not current.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from cli.params.stage_group import StageGroup
from cli.run.devices import Hardware, lighter
from cli.run.dry_run import GPU_GB
from cli.run.stage_settings import stage_settings
from pipeline.byte_sizes import human_size
from pipeline.checkpoint.folder import Checkpoint
from pipeline.errors import InputError
from pipeline.families import SamplingParams, VideoRequest
from pipeline.memory.capacity import Capacity
from pipeline.memory.fitting import fitted, remedies
from pipeline.memory.placement import HOST
from pipeline.memory.plan import MemoryPlan, plan_of
from pipeline.settings import StageSettings
from scripts.published import PUBLISHED

PAGE = Path(__file__).resolve().parent.parent / "docs" / "memory-table.md"
SIZES = (12, 16, 24, 48, 80, 141)
HEAD = """# What fits on which GPU

Written by `python -m scripts.memory_table` from the [memory plan](architecture/12-memory.md), for
the default video of each model on one GPU. A cell has the fewest flags that make it fit; "fits"
needs none, and what then runs on the CPU is named. The last column is the memory that the host
needs with these flags, for the smallest GPU that fits. No published model was run: the plan is held
to measured peaks on a CPU, and its parts on GPUs are counted.

"""
TAIL = """
FastHunyuan has the sizes of HunyuanVideo, and FastWan those of its Wan. `--dry-run` prints the plan
of any other video or machine, also for several GPUs: `--num-gpus 4 --dry-run --assume-gpus 4x80GB`.
"""


def page(folder: Path) -> str:
    """Return the page; checkpoints are written below ``folder``."""
    sizes = " | ".join(f"{size} GB" for size in SIZES)
    lines = [f"| model | video | {sizes} | host |", "|---" * (len(SIZES) + 3) + "|"]
    lines += [_row(name, Checkpoint.open(PUBLISHED[name](folder / name))) for name in PUBLISHED]
    return HEAD + "\n".join(lines) + "\n" + TAIL


def _row(name: str, checkpoint: Checkpoint) -> str:
    defaults = checkpoint.info.defaults
    image = (defaults.width, defaults.height) if checkpoint.info.image == "required" else None
    video = checkpoint.info.resolve(SamplingParams(prompt="-"), image=image)
    cells, host = zip(*_cells(checkpoint, video), strict=True)
    needed = next((size for size in host if size), None)
    shown = f"{video.width}x{video.height}, {video.num_frames} frames"
    return f"| {name} | {shown} | {' | '.join(cells)} | {human_size(needed) if needed else '-'} |"


def _cells(checkpoint: Checkpoint, video: VideoRequest) -> Iterator[tuple[str, int]]:
    """Yield for each GPU the flags, and the memory of the host; 0 where nothing fits."""
    stages = StageGroup.model_validate({})
    settings = stage_settings(checkpoint, stages, Hardware(gpu=True))
    choices = [settings, *lighter(stages, settings)]
    for size in SIZES:
        capacity = Capacity(None, (size * GPU_GB,))
        try:
            yield _fits("fits", checkpoint, choices, video, capacity)
        except InputError:
            plan_for = partial(_plan, checkpoint, video, capacity)
            for flags, changed in remedies(choices[-1], capacity, plan_for)[:1]:
                update = dict(set(changed) - set(choices[-1]))
                flagged = [choice.model_copy(update=update) for choice in choices]
                yield _fits(f"`{flags}`", checkpoint, flagged, video, capacity)
                break
            else:
                yield "-", 0


def _fits(
    text: str,
    checkpoint: Checkpoint,
    choices: Sequence[StageSettings],
    video: VideoRequest,
    capacity: Capacity,
) -> tuple[str, int]:
    """Return ``text`` and what the first choice that fits changes, and the memory of the host."""
    settings, *others = choices
    found, plan = fitted(checkpoint, settings, video, capacity, lighter=others)
    changes = [
        text
        for text, changed in (
            ("experts swapped", found.offload != settings.offload),
            ("encoders on the CPU", found.encoder_engine != settings.encoder_engine),
            ("VAE in tiles", found.vae_tiling and not settings.vae_tiling),
            ("VAE on the CPU", found.vae_engine != settings.vae_engine),
        )
        if changed
    ]
    return f"{text} ({', '.join(changes)})" if changes else text, plan.total(HOST)


def _plan(
    checkpoint: Checkpoint, video: VideoRequest, capacity: Capacity, settings: StageSettings
) -> MemoryPlan:
    return plan_of(checkpoint, settings, video, capacity)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        PAGE.write_text(page(Path(scratch)), encoding="utf-8")
