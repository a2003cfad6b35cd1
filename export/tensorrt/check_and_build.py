"""What an export does with each graph after capture: the requested checks, and the engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from export.cache import open_cache
from export.options import ExportOptions
from export.records import GraphRecord
from export.tensorrt.building import build
from export.tensorrt.checking import check, require_compiled
from export.tensorrt.targets import gpu_name, gpu_target, installed_version
from pipeline.families.parts import Part

# one file for all exports of this machine: their layers are much alike
TIMINGS = "tensorrt.timings"


def check_and_build(
    record: GraphRecord,
    part: Part,
    folder: Path,
    options: ExportOptions,
    say: Callable[[str], None],
) -> GraphRecord:
    """Return the record of the graph ``folder / record.file`` with its checks, and with its engine
    in the flavour ``tensorrt``.

    ``say`` is called at every tenth of the way. Raises ``CheckpointError`` for a graph that does
    not compile, ``InputError`` where this machine cannot do what ``options`` ask for.
    """
    onnx = folder / record.file
    checks = check(onnx, record, options.check, _by_tenths(f"compiling {record.name} for", say))
    require_compiled(part.name, record.name, checks)
    plan = None
    if options.flavour == "tensorrt":
        plan, report = f"{record.name}.plan", _by_tenths(f"building {record.name} for", say)
        timings = open_cache() / TIMINGS
        # Parts are made in parallel, but two builds on one GPU would time each other's kernels.
        with FileLock(f"{timings}.lock"):
            build(
                onnx,
                record,
                folder / plan,
                timing_cache=timings,
                on_progress=lambda percent: report("this GPU", percent),
                # Triton's tensorrt backend, which runs the text encoders, has no budget.
                weight_bytes=options.weight_streaming_bytes if part.kind == "vae" else None,
                # torch computes convolutions in TF32 as well, of which a VAE nearly consists.
                tf32=part.kind == "vae",
            )
    return record.model_copy(update={"checks": checks, "plan": plan})


def _by_tenths(doing: str, say: Callable[[str], None]) -> Callable[[str, int], None]:
    said: set[tuple[str, int]] = set()

    def tell(target: str, percent: int) -> None:
        tenth = percent // 10 * 10
        if (target, tenth) not in said:
            said.add((target, tenth))
            say(f"{doing} {target}: {tenth} %")

    return tell


def compilers(options: ExportOptions) -> tuple[str, ...]:
    """Return what compiles under ``options``, as words of a cache key: an engine is for one version
    and one GPU.
    """
    words = [f"tensorrt_rtx {installed_version('tensorrt_rtx')}"] if options.check else []
    if options.flavour == "tensorrt":
        words.append(f"tensorrt {installed_version('tensorrt')} {gpu_target()} {gpu_name()}")
    return tuple(words)
