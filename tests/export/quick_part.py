"""Stands in for `export.part_process` where a test is about what stands around it.

It has the same call, and writes files of a few bytes.

Every call leaves a file in the folder ``$QUICK_PART``; files there named after a part make it fail
or wait.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from export.child import speaking_channel
from export.options import ExportOptions
from export.records import COMPONENT_FILE, ComponentRecord, GraphRecord
from pipeline.families.parts import PARTS
from pipeline.system.parent import end_with

FILES = {
    "text_encoder": ("model.onnx", "tokenizer.json"),
    "vae_decoder": ("first.onnx", "next.onnx"),
}
FILES["text_encoder_2"] = FILES["text_encoder"]
OTHERS = ("model.onnx",)


def main(part: str, output: Path, options: ExportOptions, parent: int) -> None:
    end_with(parent)
    say = speaking_channel()
    folder = Path(os.environ["QUICK_PART"])
    (folder / f"{part}-{os.getpid()}").touch()
    time.sleep(0.05)  # long enough for two callers to meet
    if (folder / f"fail.{part}").exists():
        sys.exit("the test made it fail")
    for file in FILES.get(part, OTHERS):
        say(f"capturing {file}")
        (output / file).write_text(f"{file} of {part}")
    while (folder / f"wait.{part}").exists():
        time.sleep(0.02)
    graphs = tuple(
        GraphRecord(name=file.partition(".")[0], file=file, nodes=1, min={}, opt={}, max={})
        for file in FILES.get(part, OTHERS)
        if file.endswith(".onnx")
    )
    record = ComponentRecord(
        part=part, class_name="Quick", precision=options.precision_of(PARTS[part]), graphs=graphs
    )
    (output / COMPONENT_FILE).write_text(record.model_dump_json())


if __name__ == "__main__":
    _part, _, _output, _options, _parent = sys.argv[1:]
    main(_part, Path(_output), ExportOptions.model_validate_json(_options), int(_parent))
