"""Memory, time and disk of an export, beside the plain way: from_pretrained and torch.onnx.export.

    python bench/export.py              the full-size Wan 2.1 VAE decoder and UMT5-XXL, a small UMT5
    python bench/export.py --only vae   one of them: umt5-xxl, umt5, vae
    python bench/export.py --small      a small UMT5 only
    python bench/export.py --markdown FILE.md

Weights are random, written to a temporary folder (``--folder`` names one on another disk). Each
number is that of a separate process. Goal: the peak of UMT5-XXL is under 40 % of its weights;
exit code 1 when it is missed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.lib import table
from bench.lib.exporting import components
from bench.lib.exporting.measure import Export, export
from bench.lib.serving import cores, note

HEADER = (
    "component", "weights", "side", "time", "at first", "anonymous", "resident", "of weights",
    "written", "goal", "met",
)  # fmt: skip
GOAL = 0.4
NOTES = """{threads} CPU threads. At first is what the interpreter has (RssAnon) once its libraries
are imported, anonymous the highest that was seen later; resident is VmHWM: pages of mapped files
are in it, which the kernel can drop at any time. The share of the weights is that of resident.
Written leaves out files that are the checkpoint's own. Time is without imports and without the
parity check."""

Row = Sequence[str]


@dataclass(frozen=True)
class Case:
    """``plain`` is whether the plain way is measured too; ``goal`` the share of the weights that
    the peak may have.
    """

    name: str
    part: str
    class_name: str
    precision: str
    make: Callable[..., int]
    nbytes: int
    plain: bool
    sizes: dict[str, int] = field(default_factory=dict)
    goal: float | None = None


_UMT5 = ("text_encoder", "UMT5EncoderModel", "bf16", components.umt5)
CASES = {
    "vae": Case(
        "Wan 2.1 VAE decoder",
        "vae_decoder",
        "AutoencoderKLWan",
        "fp32",
        components.wan_vae,
        600 << 20,
        plain=True,
    ),
    "umt5": Case(
        "UMT5, 6 layers",
        *_UMT5,
        1 << 31,
        plain=True,
        sizes={"d_model": 2048, "d_ff": 5120, "num_layers": 6},
    ),
    "umt5-xxl": Case("UMT5-XXL", *_UMT5, 12 << 30, plain=False, goal=GOAL),
}
SMALL = Case(
    "UMT5, 1 layer", *_UMT5, 256 << 20, plain=False,
    sizes={"vocab_size": 80_000, "d_model": 1024, "d_ff": 2816, "num_layers": 1, "num_heads": 16},
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    os.environ["HF_HUB_OFFLINE"] = "1"
    cases = [SMALL] if options.small else [CASES[name] for name in options.only]
    rows = [row for case in cases for row in _measured(case, options.folder)]
    print(table.text(HEADER, rows))
    if options.markdown:
        table.save_markdown(
            options.markdown, "Export", NOTES.format(threads=options.threads), HEADER, rows
        )
    return 1 if any(row[-1] == table.verdict(False) for row in rows) else 0


def _measured(case: Case, parent: Path | None) -> Iterator[Row]:
    with TemporaryDirectory(prefix="triton-video-bench-", dir=parent) as name:
        folder = Path(name)
        # Weights, and at most as much again for each side.
        needed, free = case.nbytes * (3 if case.plain else 2), shutil.disk_usage(folder).free
        if free < needed:
            note(
                f"{case.name} is skipped: it needs {_size(needed)}, and {folder.parent} has "
                f"{_size(free)} free"
            )
            return
        note(f"{case.name}: writing {_size(case.nbytes)} of random weights")
        weights = case.make(
            folder / "component",
            "bfloat16" if case.precision == "bf16" else "float32",
            **case.sizes,
        )
        for side in ("ours", "plain") if case.plain else ("ours",):
            note(f"{case.name}: exporting, {side}")
            output = folder / side
            yield _row(case, side, weights, _export(case, side, folder / "component", output))
            shutil.rmtree(output)


def _export(case: Case, side: str, folder: Path, output: Path) -> Export:
    return export(side, case.part, case.class_name, folder, output, case.precision)


def _row(case: Case, side: str, weights: int, found: Export) -> Row:
    share = found.resident / weights
    goal = case.goal if side == "ours" else None
    return (
        case.name, f"{_size(weights)} {case.precision}",
        "triton-video" if side == "ours" else "plain",
        f"{found.seconds:.0f} s", _size(found.before), _size(found.anonymous),
        _size(found.resident), f"{share:.0%}",
        _size(found.written),
        f"< {goal:.0%}" if goal else "-", table.verdict(share < goal if goal else None),
    )  # fmt: skip


def _size(nbytes: float) -> str:
    return f"{nbytes / 2**30:.1f} GiB" if nbytes >= 1 << 30 else f"{nbytes / 2**20:.0f} MiB"


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), help="components")
    parser.add_argument(
        "--small", action="store_true", help="a component of 200 MB only, to try it"
    )
    parser.add_argument("--threads", type=int, default=cores(), help="CPU threads")
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write the table there")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
