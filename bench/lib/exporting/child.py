"""Exports one component in this process: ``python child.py SIDE PART CLASS FOLDER OUTPUT
PRECISION``.

SIDE is ``ours`` or ``plain``: the same graphs of a model that ``from_pretrained`` loads, by
``torch.onnx.export``. The last line of output is ``[seconds, RssAnon before, VmRSS before, VmHWM
after]``, in bytes; all leave out the imports' own peak.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))


def main(side: str, part: str, class_name: str, folder: Path, output: Path, precision: str) -> None:
    import torch

    import export.capture  # noqa: F401  what is imported is not measured
    from export.components import component_for
    from pipeline.families.parts import PARTS

    component = component_for(PARTS[part], class_name)
    component.model_class()
    output.mkdir()
    before = resident("RssAnon"), resident("VmRSS")
    started = time.monotonic()
    with torch.no_grad():
        (ours if side == "ours" else plain)(component, class_name, folder, output, precision)
    print(json.dumps([time.monotonic() - started, *before, resident("VmHWM")]))


def ours(component: Any, class_name: str, folder: Path, output: Path, precision: Any) -> None:
    """As `export.part_process` does it, without the parity check."""
    import torch

    from export.capture import capture
    from export.precision import set_precision
    from export.weights import empty_model

    model = empty_model(component, folder, torch.float32)
    set_precision(model, class_name, precision)
    for graph in component.graphs(model, bounds()):
        capture(graph, output / f"{graph.name}.onnx", folder)


def plain(component: Any, class_name: str, folder: Path, output: Path, precision: Any) -> None:
    import torch

    from export.capture import OPSET, FlatInputs, quiet_export
    from export.graph import DTYPES

    del class_name
    model = (
        component.model_class()
        .from_pretrained(folder, dtype=DTYPES[precision], local_files_only=True)
        .eval()
    )
    for graph in component.graphs(model, bounds()):
        with quiet_export():
            program = torch.onnx.export(
                FlatInputs(graph.module),
                graph.example(),
                input_names=[port.name for port in graph.inputs],
                output_names=list(graph.outputs),
                dynamic_shapes=(graph.dynamic_shapes(),),
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
        assert program is not None
        program.save(output / f"{graph.name}.onnx", external_data=True)


def bounds() -> Any:
    """Of the bundled checkpoint: sizes of profiles, which no weight depends on."""
    from bench.lib.serving import BUNDLED
    from export.components import Bounds
    from pipeline.checkpoint.folder import Checkpoint

    return Bounds(Checkpoint.open(BUNDLED).info)


def resident(field: str) -> int:
    """A line of proc_pid_status(5) in bytes. (Not ru_maxrss, which begins with what the parent
    had.)
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{field}:"))


if __name__ == "__main__":
    _side, _part, _class, _folder, _output, _precision = sys.argv[1:]
    main(_side, _part, _class, Path(_folder), Path(_output), _precision)
