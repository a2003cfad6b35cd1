"""The process of one part: it writes the ONNX graphs of one component, and what prepares an
encoder's inputs.

`export.child` starts it with the arguments PART CHECKPOINT OUTPUT OPTIONS PARENT.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from export import tensorrt
from export.child import bound_memory, bound_time, speaking_channel
from export.options import ExportOptions
from export.records import COMPONENT_FILE, TOKENIZER_FILE, ComponentRecord, GraphRecord
from export.soundness import MEMORY_BYTES, TIME_LIMIT_S
from pipeline.checkpoint.folder import CONFIG_NAMES, Checkpoint
from pipeline.families.parts import PARTS, Part, PartKind
from pipeline.system.parent import end_with

if TYPE_CHECKING:
    from export.graph import Graph


def main(part: Part, checkpoint: Path, output: Path, options: ExportOptions, parent: int) -> None:
    """Export one part into the folder ``output``."""
    end_with(parent)
    say = speaking_channel()
    output.mkdir(parents=True, exist_ok=True)
    if options.in_torch(part):
        # The checkpoint may not have been found sound yet.
        bound_time(TIME_LIMIT_S)
        bound_memory(MEMORY_BYTES)
    if part.preprocessor:
        _save_preprocessor(part.kind, checkpoint / part.preprocessor, output)
    opened = Checkpoint.open(checkpoint)
    if options.in_torch(part):
        record = ComponentRecord(
            part=part.name,
            class_name=opened.classes[part.component],
            precision=options.precision_of(part),
            graphs=(),
        )
        _save(record, output)
    else:
        export_component(opened, part, output, options, say)


def export_component(
    checkpoint: Checkpoint,
    part: Part,
    output: Path,
    options: ExportOptions,
    say: Callable[[str], None] = lambda _: None,
) -> ComponentRecord:
    """Write every graph of one part as ONNX files to the existing folder ``output``, and
    ``component.json`` last.

    ``say`` is called with a few words about what is being done.
    """
    import torch

    from export import parity
    from export.components import Bounds, component_for
    from export.overflow import overflowing_modules
    from export.parity.torch_reference import reference_graphs
    from export.precision import set_precision
    from export.weights import empty_model

    weights = checkpoint.path / part.component
    class_name, precision = checkpoint.classes[weights.name], options.precision_of(part)
    component = component_for(part, class_name)
    bounds = Bounds(checkpoint.info, options.vae_engine, options.engine_max_pixels)
    say("reading")
    model = empty_model(component, weights, torch.float32)
    overflowing = (
        overflowing_modules(component, weights, bounds, class_name) if precision == "fp16" else ()
    )
    kept = set_precision(model, class_name, precision, overflowing)
    records = list(_captured(component.graphs(model, bounds), weights, output, say))
    say("comparing with torch")
    results = parity.check(reference_graphs(component, weights, bounds), output, precision, part)
    records = [record.model_copy(update={"parity": results[record.name]}) for record in records]
    records = [tensorrt.check_and_build(record, part, output, options, say) for record in records]
    record = ComponentRecord(
        part=part.name,
        class_name=class_name,
        precision=precision,
        graphs=tuple(records),
        kept_fp32=kept,
    )
    _save(record, output)
    return record


def _save(record: ComponentRecord, output: Path) -> None:
    (output / COMPONENT_FILE).write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")


def _captured(
    graphs: Iterable[Graph], weights: Path, output: Path, say: Callable[[str], None]
) -> Iterator[GraphRecord]:
    """Write each graph as an ONNX file, and yield its record."""
    from export.capture import capture

    for graph in graphs:
        file = f"{graph.name}.onnx"
        say(f"capturing {graph.name}")
        nodes = capture(graph, output / file, weights)
        yield GraphRecord.of(graph, file, nodes)


def _save_preprocessor(kind: PartKind, folder: Path, output: Path) -> None:
    """Save a tokenizer as the one JSON file that the ``tokenizers`` library reads, or copy the
    settings of an image processor.
    """
    if kind == "image":
        settings = CONFIG_NAMES[folder.name]
        shutil.copyfile(folder / settings, output / settings)
        return
    from export.tokenizers import load_tokenizer

    load_tokenizer(folder).save(str(output / TOKENIZER_FILE))


if __name__ == "__main__":
    _part, _checkpoint, _output, _options, _parent = sys.argv[1:]
    main(
        PARTS[_part],
        Path(_checkpoint),
        Path(_output),
        ExportOptions.model_validate_json(_options),
        int(_parent),
    )
