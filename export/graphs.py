"""The exported parts of a checkpoint: ONNX graphs of its text encoders, VAE and so on, and the tokenizers.

Each part is made by a process of its own (``python -m export.graphs PART CHECKPOINT OUTPUT OPTIONS PARENT``): they run
side by side, and the memory of torch goes back when they end.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from export import tensorrt
from export.options import ExportOptions
from export.records import COMPONENT_FILE, ComponentRecord, GraphRecord
from pipeline.checkpoint import Checkpoint, read_json
from pipeline.errors import CheckpointError
from pipeline.spec import family_of

PR_SET_PDEATHSIG = 1


def export_graphs(
    checkpoint: Path, output: Path, on_progress: Callable[[str], None], options: ExportOptions | None = None
) -> None:
    """Write every part of the checkpoint folder below the existing folder ``output``, one folder per part.

    Raises ``CheckpointError`` with the reason of the first part that fails; the others are stopped then.
    """
    parts = family_of(read_json(checkpoint / "model_index.json")).parts
    on_progress(f"exporting {' and '.join(parts)} to ONNX (once per checkpoint)")
    started = {part: _start(part, checkpoint, output / part, options or ExportOptions()) for part in parts}
    try:
        for part, process in started.items():
            _, errors = process.communicate()
            if process.returncode:
                reason = errors.strip().rpartition("\n")[2] or f"exit code {process.returncode}"
                raise CheckpointError(f"the {part} of {checkpoint} cannot be exported: {reason}", details=errors)
            on_progress(f"exported {part}")
    finally:
        for process in started.values():
            if process.returncode is None:
                process.kill()
                process.communicate()


def _start(part: str, checkpoint: Path, output: Path, options: ExportOptions) -> subprocess.Popen[str]:
    values = (part, str(checkpoint), str(output), options.model_dump_json(), str(os.getpid()))
    root = Path(__file__).resolve().parent.parent
    return subprocess.Popen(
        [sys.executable, "-m", "export.graphs", *values],
        cwd=root,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def main(part: str, checkpoint: Path, output: Path, options: ExportOptions, parent: int) -> None:
    """Export one part; the process ends with its parent, however that ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before it could be watched
        sys.exit("the process that wanted this export is gone")
    output.mkdir(parents=True, exist_ok=True)
    if part.startswith("text_encoder"):
        _save_tokenizer(checkpoint / part.replace("text_encoder", "tokenizer"), output)
    export_component(Checkpoint.open(checkpoint), part, output, options)


def export_component(checkpoint: Checkpoint, part: str, output: Path, options: ExportOptions) -> ComponentRecord:
    """Every graph of one component as ONNX files in the existing folder ``output``, and ``component.json`` last."""
    from export.capture import capture
    from export.components import FOLDERS, Bounds, component_for
    from export.graph import DTYPES

    folder = FOLDERS.get(part, part)
    component, precision = component_for(part, checkpoint.classes[folder]), options.precision_of(part)
    model = component.model_class().from_pretrained(checkpoint.path / folder, dtype=DTYPES[precision]).eval()
    records: list[GraphRecord] = []
    for graph in component.graphs(model, Bounds(checkpoint.info, options.vae_engine)):
        file = f"{graph.name}.onnx"
        nodes = capture(graph, output / file)
        least, usual, most = graph.shapes("least"), graph.shapes("usual"), graph.shapes("most")
        record = GraphRecord(name=graph.name, file=file, nodes=nodes, least=least, usual=usual, most=most)
        checks = tensorrt.check(output / file, record, options.check, lambda _target, _percent: None)
        tensorrt.require_compiled(part, graph.name, checks)
        records.append(record.model_copy(update={"checks": checks}))
    class_name = checkpoint.classes[folder]
    record = ComponentRecord(part=part, class_name=class_name, precision=precision, graphs=tuple(records))
    (output / COMPONENT_FILE).write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return record


def _save_tokenizer(folder: Path, output: Path) -> None:
    """As the one JSON file that the ``tokenizers`` library reads."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    tokenizer.backend_tokenizer.save(str(output / "tokenizer.json"))


if __name__ == "__main__":
    _part, _checkpoint, _output, _options, _parent = sys.argv[1:]
    main(_part, Path(_checkpoint), Path(_output), ExportOptions.model_validate_json(_options), int(_parent))
