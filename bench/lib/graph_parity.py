"""One part of one checkpoint exported in one precision, and the figures that the export wrote
down.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.lib import table
from export.options import ExportOptions
from export.parity import ParityError
from export.part_process import export_component
from export.records import ComponentRecord, GraphRecord
from pipeline.checkpoint.folder import Checkpoint
from pipeline.errors import CheckpointError
from pipeline.families import FAMILIES as SPECS
from pipeline.families.parts import Part
from pipeline.settings import GraphPrecision, VaeEngine
from tests.checkpoints import BUILDERS

FAMILIES = tuple(SPECS)
BUNDLED = "shapes"
_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Line:
    """``met`` is None for what cannot be exported at all."""

    cells: tuple[str, ...]
    met: bool | None


def checkpoint(name: str, folder: Path) -> Checkpoint:
    """The bundled checkpoint, or a tiny one of the family ``name`` that is written below
    ``folder``.
    """
    return Checkpoint.open(
        _ROOT / "models" / name if name == BUNDLED else BUILDERS[name](folder / name)
    )


def lines(
    name: str, checkpoint: Checkpoint, part: Part, precision: GraphPrecision, vae_engine: VaeEngine
) -> Iterator[Line]:
    """A line for each graph of the part; none where options cannot give the part that precision."""
    options = ExportOptions(
        vae_precision=precision,
        text_encoder_precisions=(precision, precision),
        vae_engine=vae_engine,
    )
    if options.precision_of(part) != precision:
        return
    with tempfile.TemporaryDirectory(prefix="parity-") as output:
        try:
            record = export_component(checkpoint, part, Path(output), options)
        except ParityError as error:
            yield Line(
                (name, part.name, "", precision, str(error), "", "", "", "", table.verdict(False)),
                False,
            )
        except CheckpointError as error:
            yield Line(
                (name, part.name, "", precision, str(error), "", "", "", "", table.verdict(None)),
                None,
            )
        else:
            for graph in record.graphs:
                yield Line(_cells(name, record, graph), True)


def _cells(name: str, record: ComponentRecord, graph: GraphRecord) -> tuple[str, ...]:
    figure = graph.parity
    assert figure is not None
    limit = (
        f"<= {figure.limit_max_abs:.0e}"
        if figure.limit_cosine is None
        else f">= {figure.limit_cosine}"
    )
    return (
        name,
        record.part,
        record.class_name,
        record.precision,
        graph.name,
        str(figure.cases),
        f"{figure.max_abs:.1e}",
        f"{figure.cosine:.7f}",
        limit,
        table.verdict(True),
    )
