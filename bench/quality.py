"""What a faster setting costs: time, likeness to the exact video, and adherence to the prompt.

    python bench/quality.py                    every setting, all 72 held-out clips
    python bench/quality.py --count 24 --markdown FILE.md
    python bench/quality.py --lora-path models/loras    also each LoRA of this folder

The exact clip is made in fp32, and every other setting in bf16. Each clip is made with every
setting in turn, so that other work on the machine slows all of them. Videos come from a real
Triton; `bench/lib/judge.py` looks at their frames. Exit code 1 when a setting loses more adherence
than it may.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.adherence import Case, make_cases
from bench.lib import table
from bench.lib.judge import Judgement, judge
from bench.lib.likeness import psnr, ssim
from bench.lib.serving import BUNDLED, cores, make_video, note, served
from cli.params.stage_group import StageGroup
from cli.run.loras import lora_settings
from pipeline.checkpoint.folder import Checkpoint
from pipeline.client import VideoClient
from pipeline.families import SamplingParams
from pipeline.families.lora import LoraFile, LoraUse
from pipeline.families.step_cache.option import StepCache
from pipeline.families.step_cache.table import Level
from pipeline.settings import Precision

ATTRIBUTES = ("colour", "shape", "motion")
HEADER = (
    "setting", "steps computed", "s", "speed", "PSNR", "SSIM", *ATTRIBUTES, "met",
)  # fmt: skip
EXACT = "fp32"


@dataclass(frozen=True)
class Setting:
    """A way to make a clip.

    ``allowed_loss`` is how many percentage points of any attribute it may lose beside the exact
    clips; None for a LoRA, which may be made to change what a clip shows.
    """

    precision: Precision = "bf16"
    compiled: bool = False
    level: Level = "off"
    lora: LoraFile | None = None
    allowed_loss: float | None = 0

    def params(self, case: Case, steps: int) -> SamplingParams:
        """Return a request for the clip; a LoRA's preset replaces ``steps``."""
        preset = self.lora.preset.num_inference_steps if self.lora else None
        return SamplingParams(
            prompt=case.prompt,
            seed=case.seed,
            num_inference_steps=preset or steps,
            step_cache=self.level,
            lora=(LoraUse(name=self.lora.name),) if self.lora else None,
        )


SETTINGS: Mapping[str, Setting] = {
    EXACT: Setting("fp32"),
    "bf16": Setting(),
    "bf16, compiled": Setting(compiled=True),
    "step cache 1.5x": Setting(level="1.5x", allowed_loss=3),
    "step cache 2x": Setting(level="2x", allowed_loss=6),
}


@dataclass
class Clips:
    """The clips of one setting, and the seconds that each took."""

    frames: list[np.ndarray] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    checkpoint = Checkpoint.open(options.model_path)
    settings = dict(SETTINGS)
    loras = lora_settings(checkpoint, StageGroup.model_validate({"lora_path": options.lora_path}))[
        "loras"
    ]
    settings |= {f"LoRA {lora.name}": Setting(lora=lora, allowed_loss=None) for lora in loras}
    cases = make_cases(options.count, options.seed, varied=False)
    made = _generate(settings, cases, options, loras)
    found = {name: [judge(clip) for clip in clips.frames] for name, clips in made.items()}
    computed = {
        name: computed_steps(checkpoint, setting.params(cases[0], options.steps))
        for name, setting in settings.items()
    }
    rows, met = report(settings, cases, made, found, computed)
    print(table.text(HEADER, rows))
    if options.markdown:
        notes = (
            f"Made by `python bench/quality.py`: {len(cases)} clips of combinations that training "
            f"never saw, {options.steps} steps; s is the median of a warm request. PSNR (median, "
            "dB) and SSIM (mean) compare with the clip of the same seed in fp32."
        )
        table.save_markdown(options.markdown, "Speed and quality", notes, HEADER, rows)
    return 0 if met else 1


def computed_steps(checkpoint: Checkpoint, params: SamplingParams) -> int:
    """Return how many steps of a request are computed and not reused."""
    steps = params.num_inference_steps
    assert steps is not None
    reused = StepCache(checkpoint.step_cache).reused_steps(params.step_cache, [steps])
    return steps - len(reused)


def report(
    settings: Mapping[str, Setting],
    cases: Sequence[Case],
    made: Mapping[str, Clips],
    found: Mapping[str, Sequence[Judgement]],
    computed: Mapping[str, int],
) -> tuple[list[list[str]], bool]:
    """Return the rows of the table, and whether every setting keeps the adherence that it must."""
    exact, rows, all_met = made[EXACT], list[list[str]](), True
    right = {name: _adherence(cases, judged) for name, judged in found.items()}
    for name, clips in made.items():
        seconds = float(np.median(clips.seconds))
        pairs = list(zip(clips.frames, exact.frames, strict=True))
        likeness = ["-", "-"]
        if name != EXACT:
            likeness = [
                f"{np.median([psnr(*pair) for pair in pairs]):.1f}",
                f"{np.mean([ssim(*pair) for pair in pairs]):.3f}",
            ]
        losses = [right[EXACT][each] - right[name][each] for each in ATTRIBUTES]
        allowed = settings[name].allowed_loss
        met = None if allowed is None else max(losses) <= allowed
        all_met &= met is not False
        rows.append(
            [
                name, str(computed[name]), f"{seconds:.2f}",
                f"{float(np.median(exact.seconds)) / seconds:.2f}x", *likeness,
                *(f"{right[name][each]:.1f}" for each in ATTRIBUTES), table.verdict(met),
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


def _generate(
    settings: Mapping[str, Setting],
    cases: Sequence[Case],
    options: argparse.Namespace,
    loras: Sequence[LoraFile],
) -> dict[str, Clips]:
    """Make every clip with every setting; settings that one server can have share it."""
    made = {name: Clips() for name in settings}
    with ExitStack() as stack:
        clients = dict[tuple[Precision, bool], VideoClient]()
        for each in settings.values():
            if (kind := (each.precision, each.compiled)) in clients:
                continue
            more: dict[str, Any] = {"enable_torch_compile": each.compiled}
            if kind == ("bf16", False):
                more["loras"] = loras
            server = served(options.model_path, each.precision, options.threads, **more)
            clients[kind] = client = stack.enter_context(server)
            # A video of the same size: the first one may compile.
            make_video(client, SamplingParams(prompt="warm-up", num_inference_steps=2))
        for number, case in enumerate(cases):
            for name, setting in settings.items():
                client = clients[setting.precision, setting.compiled]
                params = setting.params(case, options.steps)
                begin = time.monotonic()
                frames = make_video(client, params, return_frames=True).frames
                made[name].seconds.append(time.monotonic() - begin)
                assert frames is not None, "frames were asked for"
                made[name].frames.append(frames)
            if (number + 1) % 12 == 0 or number + 1 == len(cases):
                note(f"{number + 1} of {len(cases)} clips")
    return made


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, help="make this many clips; all 72 without it")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="seed of the first clip")
    parser.add_argument("--lora-path", type=Path, metavar="FOLDER", help="folder of LoRAs")
    parser.add_argument("--threads", type=int, default=cores(), help="CPU threads per stage")
    parser.add_argument("--model-path", type=Path, default=BUNDLED)
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write the table there")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
