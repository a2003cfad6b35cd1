"""Parts of the families' tiny checkpoints, exported once for all tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from export.components import Bounds
from pipeline.checkpoint.folder import Checkpoint
from pipeline.families.parts import PARTS
from tests.export.exporting import export_all


@dataclass(frozen=True)
class ExportedPart:
    """``source`` is the folder of the component in the checkpoint, ``folder`` that of its
    graphs.
    """

    checkpoint: Checkpoint
    source: Path
    folder: Path

    def run(self, name: str, *feeds: np.ndarray) -> list[np.ndarray]:
        """All outputs of the graph `name` for its inputs in order."""
        session = ort.InferenceSession(
            str(self.folder / f"{name}.onnx"), providers=["CPUExecutionProvider"]
        )
        names = [value.name for value in session.get_inputs()]
        return [
            np.asarray(value) for value in session.run(None, dict(zip(names, feeds, strict=True)))
        ]


@pytest.fixture(scope="session")
def export_part(
    build_family: Callable[[str], Path],
    make_once: Callable[[str, Callable[[Path], object]], Path],
) -> Callable[[str, str], ExportedPart]:
    def export(family: str, part: str) -> ExportedPart:
        checkpoint = Checkpoint.open(build_family(family))
        name = PARTS[part].component
        class_name, bounds = checkpoint.classes[name], Bounds(checkpoint.info)
        source = checkpoint.path / name
        folder = make_once(
            f"parts/{family}/{part}",
            lambda folder: export_all(PARTS[part], class_name, source, folder, bounds),
        )
        return ExportedPart(checkpoint, source, folder)

    return export
