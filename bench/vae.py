"""Time, memory and error of the engines that decode the VAE, beside diffusers' own decode of the
whole clip in fp32.

    python bench/vae.py                            all engines
    python bench/vae.py --only chunked,torch --threads 1 --markdown FILE.md

Every line is a separate process, which decodes the same latents. Memory is by how much it grew at
most while it decoded for the first time; frames are dropped as they come, as the stage does once
they are encoded.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.lib import table
from bench.lib.serving import cores
from bench.lib.vae_cases import CASES, ENGINES, HEADER, Case, measure

NOTES = """{threads} CPU threads, medians of {repeats} decodes, beside the fastest and the slowest.
The error is the largest absolute difference of a value in [0, 1] from diffusers' decode of the
whole clip in fp32, untiled: for a tiled engine that is what tiles change, as diffusers' own tiles
do."""


def main(arguments: Sequence[str] | None = None, cases: Sequence[Case] = CASES) -> int:
    options = _options(arguments)
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    os.environ["HF_HUB_OFFLINE"] = "1"
    engines = [
        engine
        for engine in ENGINES
        if engine.name.partition(" ")[0] in (*options.only, "diffusers")
    ]
    with TemporaryDirectory(prefix="triton-video-bench-") as folder:
        rows = [
            result.row()
            for index, case in enumerate(cases)
            for result in measure(
                case, engines, Path(folder) / str(index), options.threads, options.repeats
            )
        ]
    print(table.text(HEADER, rows))
    if options.markdown:
        notes = NOTES.format(threads=options.threads, repeats=options.repeats)
        table.save_markdown(options.markdown, "Engines of the VAE decoder", notes, HEADER, rows)
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    names = ("chunked", "tile", "torch")
    parser.add_argument(
        "--only", type=lambda text: _listed(text, names), default=names, metavar=",".join(names)
    )
    parser.add_argument("--repeats", type=int, default=3, help="decodes per number")
    parser.add_argument("--threads", type=int, default=cores(), help="CPU threads of every engine")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write the table there")
    return parser.parse_args(arguments)


def _listed(text: str, allowed: Sequence[str]) -> list[str]:
    found = text.split(",")
    if unknown := sorted(set(found) - set(allowed)):
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: choose from {','.join(allowed)}")
    return found


if __name__ == "__main__":
    sys.exit(main())
