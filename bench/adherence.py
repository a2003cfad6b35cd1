"""Do videos show what their prompts say? Held-out combinations only: training saw none of them.

    python bench/adherence.py               all 24 combinations on 3 backgrounds, 20 steps
    python bench/adherence.py --count 12 -v fewer, spread evenly; lists what was wrong
    python bench/adherence.py --varied      the training recipe's varied sentences
    python bench/adherence.py --markdown FILE.md --picture FILE.png

The videos come from a real Triton started for this run; `bench/lib/judge.py` looks at their raw
frames. Exit code 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.lib import table
from bench.lib.judge import Judgement, judge, place
from bench.lib.picture import first_frame, save_contact_sheet
from bench.lib.serving import BUNDLED, PRECISIONS, cores, make_video, note, served
from models.recipe import prompts, scene
from pipeline.families import Inputs, SamplingParams

GOALS: dict[str, float | None] = {"colour": 95, "motion": 90, "shape": 80, "background": None}
PLACE_GOAL = 90
OFF_PLACE = 0.05  # distance from the image's shape, in sides of the frame, that still counts
HEADER = ("attribute", "right", "of", "percent", "goal", "met")


@dataclass(frozen=True)
class Case:
    """One clip to make, and what it should show. ``begin``: it starts with an image of that
    scene.
    """

    prompt: str
    seed: int
    wanted: Judgement
    begin: scene.Scene | None = None


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    cases = make_cases(
        options.count, options.seed, varied=options.varied, from_image=options.from_image
    )
    clips = _generate(cases, options)
    found = [judge(clip) for clip in clips]
    rows, met = score([case.wanted for case in cases], found)
    if options.from_image:
        row, placed = score_places(cases, clips)
        rows, met = [*rows, row], met and placed
    print(table.text(HEADER, rows))
    right = [
        _misses(case.wanted, judgement) == [] for case, judgement in zip(cases, found, strict=True)
    ]
    print(f"{sum(right)} of {len(cases)} clips are right in everything")
    if options.verbose:
        _print_failures(cases, found)
    if options.markdown:
        table.save_markdown(
            options.markdown, "Adherence to the prompt", _notes(cases, options), HEADER, rows
        )
    if options.picture:
        save_contact_sheet(options.picture, clips, right)
    return 0 if met else 1


def make_cases(
    count: int | None, seed: int, *, varied: bool, from_image: bool = False
) -> list[Case]:
    """Every held-out combination on every background, or ``count`` of these at even distances."""
    rng = random.Random(seed)
    shown = [
        (*combination, back)
        for combination in scene.combinations(held=True)
        for back in scene.BACKGROUNDS
    ]
    if count is not None:
        shown = [
            shown[i]
            for i in np.linspace(0, len(shown) - 1, min(count, len(shown))).round().astype(int)
        ]
    cases = []
    for i, (colour, shape, motion, background) in enumerate(shown):
        prompt = _prompt(colour, shape, motion, background, rng if varied else None)
        begin = None
        if from_image:
            rng_of_place = random.Random(f"{seed}-place-{i}")
            begin = scene.place((colour, shape, motion), background, rng_of_place)
        cases.append(Case(prompt, seed + i, Judgement(colour, shape, motion, background), begin))
    return cases


def score(wanted: Sequence[Judgement], found: Sequence[Judgement]) -> tuple[list[list[str]], bool]:
    """The rows of the table, and whether every goal is met."""
    rows, all_met = [], True
    for name, goal in GOALS.items():
        right = sum(
            getattr(w, name) == getattr(f, name) for w, f in zip(wanted, found, strict=True)
        )
        percent = 100 * right / len(wanted)
        met = None if goal is None else percent >= goal
        all_met &= met is not False
        least = "-" if goal is None else f">= {goal:g}"
        rows.append(
            [name, str(right), str(len(wanted)), f"{percent:.1f}", least, table.verdict(met)]
        )
    return rows, all_met


def score_places(cases: Sequence[Case], clips: Sequence[np.ndarray]) -> tuple[list[str], bool]:
    """The row of the table for how many clips begin with the shape where their image has it."""
    right = 0
    for case, clip in zip(cases, clips, strict=True):
        assert case.begin is not None
        found = place(clip)
        right += found is not None and np.hypot(*np.subtract(found, case.begin.centre[0])) <= (
            OFF_PLACE
        )
    percent = 100 * right / len(cases)
    met = percent >= PLACE_GOAL
    values = [str(right), str(len(cases)), f"{percent:.1f}", f">= {PLACE_GOAL}"]
    return ["place", *values, table.verdict(met)], met


def _prompt(
    colour: str, shape: str, motion: str, background: str, rng: random.Random | None
) -> str:
    if rng is not None:
        # Speed is left at normal, so that no adverb appears; where the object is, a sentence does
        # not say.
        still = ((0.5, 0.5), (0.5, 0.5))
        drawn = scene.Scene(colour, shape, motion, background, "normal", still, (0.2, 0.2))
        return prompts.describe(drawn, rng)
    verb = f"moves {motion}" if motion in scene.DIRECTIONS else f"{motion}s"
    article = "an" if colour[0] in "aeiou" else "a"
    return f"{article} {colour} {shape} {verb} on a {background} background"


def _generate(cases: Sequence[Case], options: argparse.Namespace) -> list[np.ndarray]:
    clips = []
    with served(options.model_path, options.precision, options.threads) as client:
        for i, case in enumerate(cases):
            params = SamplingParams(
                prompt=case.prompt, seed=case.seed, num_inference_steps=options.steps
            )
            inputs = Inputs(image=first_frame(case.begin)) if case.begin else None
            frames = make_video(client, params, return_frames=True, inputs=inputs).frames
            assert frames is not None, "frames were asked for"
            clips.append(frames)
            if (i + 1) % 12 == 0 or i + 1 == len(cases):
                note(f"{i + 1} of {len(cases)} videos")
    return clips


def _misses(wanted: Judgement, found: Judgement) -> list[str]:
    """What differs, in words. A background that the sentence may have left out does not count
    without a goal.
    """
    return [
        f"{name} {getattr(found, name) or 'unclear'} instead of {getattr(wanted, name)}"
        for name, goal in GOALS.items()
        if goal is not None and getattr(wanted, name) != getattr(found, name)
    ]


def _print_failures(cases: Sequence[Case], found: Sequence[Judgement]) -> None:
    for case, judgement in zip(cases, found, strict=True):
        if misses := _misses(case.wanted, judgement):
            print(f"  seed {case.seed} {case.prompt!r}: {', '.join(misses)}")


def _notes(cases: Sequence[Case], options: argparse.Namespace) -> str:
    words = (
        "the training recipe's varied sentences"
        if options.varied
        else f"sentences such as {cases[0].prompt!r}"
    )
    begin = "each begins with an image of its shape; " if options.from_image else ""
    return (
        f"Made by `python bench/adherence.py`: {len(cases)} clips of combinations that training "
        f"never saw, from {words}; {begin}{options.steps} steps, {options.precision}, seeds from "
        f"{options.seed}. Judged by `bench/lib/judge.py`."
    )


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--count", type=int, help="make this many clips, spread evenly; all 72 without it"
    )
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the first clip; the next ones count up"
    )
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32")
    parser.add_argument("--threads", type=int, default=cores(), help="CPU threads per stage")
    parser.add_argument("--model-path", type=Path, default=BUNDLED)
    parser.add_argument(
        "--varied", action="store_true", help="prompts in the training recipe's varied words"
    )
    parser.add_argument(
        "--from-image", action="store_true", help="begin each video with an image of its shape"
    )
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write the table there")
    parser.add_argument(
        "--picture", type=Path, metavar="FILE.png", help="also write a contact sheet there"
    )
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="list what was wrong with which prompt"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
