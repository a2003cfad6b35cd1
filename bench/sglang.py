"""A warm request from HTTP to MP4, beside sglang's diffusion server on the same weights.

    python -m bench.sglang --sglang ENVIRONMENT/bin/sglang
    python -m bench.sglang --sglang ... --repeats 9 --threads 2 --markdown FILE.md

Both servers make the same videos alternately: `POST /v1/videos`, polls, then the download. Beside
the seconds is the CPU time of all processes of the server, which other work on the machine changes
less. Each has its defaults, which on a CPU with bf16 units is bf16 for both. Exit code 1 when a
goal is missed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.adherence import make_cases
from bench.lib import table
from bench.lib.http_videos import Side, Timed, alternate, request_body, sglang_server, triton_video
from bench.lib.judge import judge
from bench.lib.result import seconds
from bench.lib.serving import BUNDLED, cores

SGLANG, EXACT, CACHED = "sglang", "triton-video", "triton-video, step cache 1.5x"
GOALS: Mapping[str, float | None] = {SGLANG: None, EXACT: 0.5, CACHED: 0.3}
"""The largest ratio of seconds to sglang's."""
HEADER = ("server", "seconds", "over sglang", "CPU", "over sglang", "goal", "met", "as prompted")
NOTES = """A warm request, {size} pixels, {num_frames} frames, {num_inference_steps} steps, with
{threads} threads for each stage: medians of {repeats} alternating requests, and of the ratios to
sglang's request before. CPU is the time of all processes of the server."""


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    if shutil.which(options.sglang) is None:
        print(f"skipped: {options.sglang} is not installed; name it with --sglang")
        return 0
    os.environ["HF_HUB_OFFLINE"] = "1"
    body = request_body(options.model_path, options.steps)
    cases = make_cases(options.repeats + 1, 0, varied=False)
    with (
        tempfile.TemporaryDirectory() as name,
        sglang_server(
            options.sglang, options.model_path, options.model_id, options.threads, Path(name)
        ) as theirs,
        triton_video(options.model_path, options.threads, Path(name)) as ours,
    ):
        # On a CPU, sglang draws the noise there; it asks for CUDA by default.
        sides = {
            SGLANG: Side(*theirs, {"generator_device": "cpu"}, spins=True),
            EXACT: Side(*ours, {"step_cache": "off"}),
            CACHED: Side(*ours, {"step_cache": "1.5x"}),
        }
        bodies = [body | {"prompt": case.prompt, "seed": case.seed} for case in cases]
        timed = alternate(sides, bodies)
    right = {
        side: sum(
            judge(each.frames) == case.wanted for each, case in zip(videos, cases[1:], strict=True)
        )
        for side, videos in timed.items()
    }
    rows = rows_of(timed, right)
    notes = NOTES.format(**body, threads=options.threads, repeats=options.repeats)
    print(notes, table.text(HEADER, rows), sep="\n\n")
    if options.markdown:
        table.save_markdown(options.markdown, "Beside sglang", notes, HEADER, rows)
    return 1 if any(table.verdict(False) in row for row in rows) else 0


def rows_of(timed: Mapping[str, Sequence[Timed]], right: Mapping[str, int]) -> list[list[str]]:
    """Return the cells of each server; ``right`` counts the videos that show their prompt."""
    rows, base = [], timed[SGLANG]
    for side, videos in timed.items():
        goal, pairs = GOALS[side], list(zip(videos, base, strict=True))
        ratio = median(ours.seconds / theirs.seconds for ours, theirs in pairs)
        cpu_ratio = median(ours.cpu_s / theirs.cpu_s for ours, theirs in pairs)
        rows.append(
            [
                side,
                seconds([each.seconds for each in videos]), f"{ratio:.2f}",
                seconds([each.cpu_s for each in videos]), f"{cpu_ratio:.2f}",
                "-" if goal is None else f"<= {goal:g}",
                table.verdict(None if goal is None else ratio <= goal),
                f"{right[side]} of {len(videos)}",
            ]
        )  # fmt: skip
    return rows


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sglang", default="sglang", help="the program, or its path")
    parser.add_argument("--model-path", type=Path, default=BUNDLED)
    parser.add_argument(
        "--model-id",
        default="Wan2.1-T2V-1.3B-Diffusers",
        help="the model that sglang knows and that the checkpoint has the architecture of",
    )
    parser.add_argument("--threads", type=int, default=1, help="CPU threads per stage")
    parser.add_argument("--repeats", type=int, default=5, help="requests per number")
    parser.add_argument("--steps", type=int, default=20, help="denoising steps of a request")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write the table there")
    options = parser.parse_args(arguments)
    options.threads = min(options.threads, cores())
    return options


if __name__ == "__main__":
    sys.exit(main())
