"""How fast and how lean the pipeline is, beside diffusers on the same checkpoint, prompts, seeds,
steps and threads.

    python bench/pipeline.py              all parts, both precisions
    python bench/pipeline.py --only a,d   a: warm request, b: cold command, c: memory,
                                          d: encoding + transport
    python bench/pipeline.py --threads 1 --markdown FILE.md

Both sides of every line are measured in this run, alternating, with the same number of threads;
the table shows medians and their ratio. Exit code 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.lib import table
from bench.lib.result import HEADER, Result
from bench.lib.serving import BUNDLED, PRECISIONS, cores

PARTS = ("a", "b", "c", "d")


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    # Read when torch and ONNX Runtime are loaded, which is why the parts are imported afterwards.
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    os.environ["HF_HUB_OFFLINE"] = "1"
    results = sorted(_measure(options), key=lambda result: result.part)
    rows = [result.row() for result in results]
    print(f"threads: {options.threads} on both sides; medians of {options.repeats}")
    print(table.text(HEADER, rows))
    if options.markdown:
        table.save_markdown(
            options.markdown, "The pipeline beside diffusers", _notes(options), HEADER, rows
        )
    return 1 if any(result.met is False for result in results) else 0


def _measure(options: argparse.Namespace) -> Iterator[Result]:
    model, threads, repeats, steps = (
        options.model_path,
        options.threads,
        options.repeats,
        options.steps,
    )
    if {"a", "d"} & set(options.only):
        from bench.lib import warm

        for precision in options.precisions:
            yield from warm.measure(
                model,
                precision,
                threads,
                repeats,
                steps,
                warm="a" in options.only,
                share="d" in options.only,
            )
    if "b" in options.only:
        from bench.lib import cold

        yield from cold.measure(model, options.precisions, threads, repeats, steps)
    if "c" in options.only:
        from bench.lib import memory

        yield from memory.measure(model, threads, repeats, options.memory_size)


def _notes(options: argparse.Namespace) -> str:
    return (
        f"Made by `python bench/pipeline.py` with {options.model_path.name}: medians of "
        f"{options.repeats} runs, turn "
        f"by turn, {options.threads} CPU threads on both sides. In brackets: the fastest and "
        "slowest run; for memory, "
        "how it compares with the first line. On both sides the precision is the transformer's; "
        "text encoder and VAE "
        "compute in float32.\n\n"
        "- a: a request to a running Triton until its MP4 has arrived, beside a loaded "
        "`diffusers.WanPipeline` that "
        "makes the same frames in one process and encodes nothing; each run has a prompt of its "
        "own.\n"
        "- b: `triton-video generate` beside `bench/lib/plain_diffusers.py`, process start to "
        "saved file. The "
        "script's text encoder is in the precision of its pipeline, as a user would get it.\n"
        "- c: growth of resident memory in a fresh process while the VAE decodes (ours: and "
        "encodes the MP4).\n"
        "- d: encoding of the MP4 and the pictures, plus the time after the last frame was decoded "
        "and a message's "
        "round trip, as a share of the request; an upper bound, as what the server takes longer "
        "for the end of the "
        "encoding counts as transport."
    )


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--only",
        type=_listed(PARTS),
        default=list(PARTS),
        metavar="a,b,c,d",
        help="parts to measure",
    )
    parser.add_argument("--repeats", type=int, default=5, help="runs per number")
    parser.add_argument("--steps", type=int, default=20, help="denoising steps")
    parser.add_argument("--threads", type=int, default=cores(), help="CPU threads on both sides")
    parser.add_argument(
        "--precisions", type=_listed(PRECISIONS), default=list(PRECISIONS), metavar="fp32,bf16"
    )
    parser.add_argument(
        "--memory-size", type=int, default=256, help="side of the frames of part c in pixels"
    )
    parser.add_argument("--model-path", type=Path, default=BUNDLED)
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write the table there")
    return parser.parse_args(arguments)


def _listed(allowed: Sequence[str]):
    def parse(text: str) -> list[str]:
        found = text.split(",")
        if unknown := set(found) - set(allowed):
            raise argparse.ArgumentTypeError(
                f"{', '.join(sorted(unknown))}: choose from {','.join(allowed)}"
            )
        return found

    return parse


if __name__ == "__main__":
    sys.exit(main())
