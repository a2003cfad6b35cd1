"""Compare the graphs of one part of a repository with torch again: ``python -m export.reparity``.

It has the arguments of `export.part_process`; the folder is the one with the graphs, and nothing is
written.
"""

from __future__ import annotations

import sys
from pathlib import Path

from export.child import speaking_channel
from export.options import ExportOptions
from pipeline.checkpoint.folder import Checkpoint
from pipeline.families.parts import PARTS, Part
from pipeline.system.parent import end_with


def main(part: Part, checkpoint: Path, folder: Path, options: ExportOptions, parent: int) -> None:
    """Raise ``ParityError`` if a graph exceeds a limit."""
    end_with(parent)
    speaking_channel()
    from export import parity
    from export.components import Bounds, component_for
    from export.parity.torch_reference import reference_graphs

    opened, source = Checkpoint.open(checkpoint), part.component
    component = component_for(part, opened.classes[source])
    graphs = reference_graphs(
        component,
        opened.path / source,
        Bounds(opened.info, options.vae_engine, options.engine_max_pixels),
    )
    parity.check(graphs, folder, options.precision_of(part), part)


if __name__ == "__main__":
    _part, _checkpoint, _folder, _options, _parent = sys.argv[1:]
    main(
        PARTS[_part],
        Path(_checkpoint),
        Path(_folder),
        ExportOptions.model_validate_json(_options),
        int(_parent),
    )
