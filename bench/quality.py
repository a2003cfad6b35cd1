"""What a faster setting costs: time, likeness to the exact video, and adherence to the prompt.

    python bench/quality.py                    every level of the step cache, all 72 held-out clips
    python bench/quality.py --count 24 --markdown FILE.md

Each clip is made with every setting in turn, so that other work on the machine slows all of them.
Videos come from a real Triton; `bench/lib/judge.py` looks at their frames. Exit code 1 when a level
loses more adherence than it may.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.adherence import Case, make_cases
from bench.lib import table
from bench.lib.judge import Judgement, judge
from bench.lib.likeness import psnr, ssim
from bench.lib.serving import BUNDLED, PRECISIONS, cores, make_video, note, served
from pipeline.checkpoint.folder import Checkpoint
from pipeline.families import SamplingParams
from pipeline.families.step_cache.option import StepCache
from pipeline.families.step_cache.table import Level

ATTRIBUTES = ("colour", "shape", "motion")
ALLOWED_LOSS: dict[Level, float] = {"off": 0, "1.5x": 3, "2x": 6}
"""Percentage points of any attribute that a level may lose beside the exact clips."""
HEADER = (
    "step cache", "steps computed", "s", "speed", "PSNR", "SSIM", *ATTRIBUTES, "met",
)  # fmt: skip


@dataclass
class Clips:
    """The clips of one level, and the seconds that each took."""

    frames: list[np.ndarray] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    cases = make_cases(options.count, options.seed, varied=False)
    made = _generate(cases, options)
    found: dict[Level, list[Judgement]] = {
        level: [judge(clip) for clip in clips.frames] for level, clips in made.items()
    }
    rows, met = report(cases, made, found, computed_steps(options.model_path, options.steps))
    print(table.text(HEADER, rows))
    if options.markdown:
        notes = (
            f"Made by `python bench/quality.py`: {len(cases)} clips of combinations that training "
            f"never saw, {options.steps} steps, {options.precision}; s is the median of a warm "
            "request. PSNR (median, dB) and SSIM (mean) compare with the exact clip of the seed."
        )
        table.save_markdown(options.markdown, "Speed and quality", notes, HEADER, rows)
    return 0 if met else 1


def computed_steps(model_path: Path, steps: int) -> dict[Level, int]:
    """Return how many of ``steps`` steps each level computes."""
    cache = StepCache(Checkpoint.open(model_path).step_cache)
    return {level: steps - len(cache.reused_steps(level, [steps])) for level in ALLOWED_LOSS}


def report(
    cases: Sequence[Case],
    made: dict[Level, Clips],
    found: dict[Level, list[Judgement]],
    computed: dict[Level, int],
) -> tuple[list[list[str]], bool]:
    """Return the rows of the table, and whether every level keeps the adherence that it must."""
    exact, rows, all_met = made["off"], list[list[str]](), True
    right = {level: _adherence(cases, judged) for level, judged in found.items()}
    for level, clips in made.items():
        seconds = float(np.median(clips.seconds))
        pairs = list(zip(clips.frames, exact.frames, strict=True))
        likeness = ["-", "-"]
        if level != "off":
            likeness = [
                f"{np.median([psnr(*pair) for pair in pairs]):.1f}",
                f"{np.mean([ssim(*pair) for pair in pairs]):.3f}",
            ]
        losses = [right["off"][name] - right[level][name] for name in ATTRIBUTES]
        met = max(losses) <= ALLOWED_LOSS[level]
        all_met &= met
        rows.append(
            [
                level, str(computed[level]), f"{seconds:.2f}",
                f"{float(np.median(exact.seconds)) / seconds:.2f}x", *likeness,
                *(f"{right[level][name]:.1f}" for name in ATTRIBUTES), table.verdict(met),
            ]
        )  # fmt: skip
    return rows, all_met


def _adherence(cases: Sequence[Case], found: Sequence[Judgement]) -> dict[str, float]:
    """Return the percentage of clips that are right in each attribute."""
    return {
        name: 100
        * sum(
            getattr(case.wanted, name) == getattr(judged, name)
            for case, judged in zip(cases, found, strict=True)
        )
        / len(cases)
        for name in ATTRIBUTES
    }


def _generate(cases: Sequence[Case], options: argparse.Namespace) -> dict[Level, Clips]:
    made: dict[Level, Clips] = {level: Clips() for level in ALLOWED_LOSS}
    with served(options.model_path, options.precision, options.threads) as client:
        make_video(client, SamplingParams(prompt="warm-up", num_inference_steps=2))
        for number, case in enumerate(cases):
            for level, clips in made.items():
                params = SamplingParams(
                    prompt=case.prompt,
                    seed=case.seed,
                    num_inference_steps=options.steps,
                    step_cache=level,
                )
                begin = time.monotonic()
                frames = make_video(client, params, return_frames=True).frames
                clips.seconds.append(time.monotonic() - begin)
                assert frames is not None, "frames were asked for"
                clips.frames.append(frames)
            if (number + 1) % 12 == 0 or number + 1 == len(cases):
                note(f"{number + 1} of {len(cases)} clips")
    return made


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, help="make this many clips; all 72 without it")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="seed of the first clip")
    parser.add_argument("--precision", choices=PRECISIONS, default="bf16")
    parser.add_argument("--threads", type=int, default=cores(), help="CPU threads per stage")
    parser.add_argument("--model-path", type=Path, default=BUNDLED)
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write the table there")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
