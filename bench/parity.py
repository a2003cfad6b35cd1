"""How far every exported graph is from torch: all families as tiny random checkpoints, and the
bundled checkpoint.

    python bench/parity.py              everything
    python bench/parity.py --checkpoints wan2.1-t2v,shapes --parts text_encoder --precisions fp32
    python bench/parity.py --vae-engine tile --markdown FILE.md

Each line is what an export itself finds and writes into ``component.json``
(docs/architecture/10-parity.md). Exit code 1 when a graph is past its limit.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.lib import table
from bench.lib.serving import cores

HEADER = (
    "checkpoint",
    "part",
    "class",
    "precision",
    "graph",
    "inputs",
    "max abs",
    "cosine",
    "limit",
    "met",
)


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    # Read when torch is loaded, which is why what measures is imported afterwards.
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    os.environ["HF_HUB_OFFLINE"] = "1"
    from bench.lib import graph_parity

    names = options.checkpoints or [*graph_parity.FAMILIES, graph_parity.BUNDLED]
    rows: list[graph_parity.Line] = []
    with tempfile.TemporaryDirectory(prefix="parity-") as folder:
        for name in names:
            checkpoint = graph_parity.checkpoint(name, Path(folder))
            for part in checkpoint.family.parts:
                if options.parts and part.name not in options.parts:
                    continue
                for precision in options.precisions:
                    for line in graph_parity.lines(
                        name, checkpoint, part, precision, options.vae_engine
                    ):
                        rows.append(line)
                        print("  ".join(line.cells), file=sys.stderr)
    cells = [line.cells for line in rows]
    print(table.text(HEADER, cells))
    if options.markdown:
        table.save_markdown(
            options.markdown, "Exported graphs beside torch", _notes(options), HEADER, cells
        )
    return 1 if any(line.met is False for line in rows) else 0


def _notes(options: argparse.Namespace) -> str:
    return (
        "Made by `python bench/parity.py`; VAE decoders are exported for the engine "
        f"`{options.vae_engine}`. What is compared is in docs/architecture/10-parity.md."
    )


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--checkpoints", type=_names, default=[], help="families, and `shapes` for the bundled one"
    )
    parser.add_argument("--parts", type=_names, default=[], help="such as text_encoder,vae_decoder")
    parser.add_argument("--precisions", type=_names, default=["fp32", "bf16", "fp16"])
    parser.add_argument("--vae-engine", choices=("chunked", "tile"), default="chunked")
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument(
        "--markdown", type=Path, metavar="FILE", help="write the table as a page, too"
    )
    return parser.parse_args(arguments)


def _names(text: str) -> list[str]:
    return text.split(",")


if __name__ == "__main__":
    sys.exit(main())
