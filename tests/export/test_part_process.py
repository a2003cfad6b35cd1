"""A separate process exports each part: a failure is one sentence, and nothing outlives it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from export import part_process as graphs
from export.hashes import FileHashes
from export.options import ExportOptions
from export.parts import make_parts, parts_of
from export.records import COMPONENT_FILE, ComponentRecord
from pipeline.checkpoint.folder import Checkpoint
from pipeline.errors import CheckpointError
from pipeline.families.parts import TEXT_ENCODER, Part
from tests.waiting import wait_for

pytestmark = pytest.mark.export

ROOT = Path(__file__).resolve().parents[2]


def exporters(output: Path) -> list[psutil.Process]:
    """The processes that export something into ``output``, whatever their parent is by now."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        command = " ".join(process.info["cmdline"] or [])
        if (
            " export.part_process " in command
            and f" {output}/" in command
            and process.info["status"] != psutil.STATUS_ZOMBIE
        ):
            found.append(process)
    return found


def make_all(checkpoint: Path, cache: Path) -> dict[Part, Path]:
    opened, options, hashes = Checkpoint.open(checkpoint), ExportOptions(), FileHashes(cache)
    parts = parts_of(opened, options, cache, hashes)
    make_parts(checkpoint, parts, options, hashes, lambda part, text: None)
    return parts


def test_a_part_that_fails_is_named_and_stops_the_others(
    patch_checkpoint: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(patch_checkpoint, broken)
    (broken / "text_encoder" / "config.json").write_text(
        json.dumps({"d_model": 24, "num_layers": "many"})
    )
    with pytest.raises(CheckpointError) as caught:
        make_all(broken, tmp_path / "cache")
    sentence = str(caught.value)
    assert sentence.startswith(f"the text_encoder of {broken} cannot be exported: ")
    assert "\n" not in sentence
    assert "Traceback" in (caught.value.details or ""), "the whole story is kept for -v"
    assert exporters(tmp_path / "cache") == []


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_exporters_end_with_their_parent(patch_checkpoint: Path, tmp_path: Path, sent: int) -> None:
    script = (
        "import signal, sys; from pathlib import Path;"
        "signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from tests.export.test_part_process import make_all;"
        "make_all(Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(patch_checkpoint), str(tmp_path)],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
    )
    wait_for(lambda: len(exporters(tmp_path)) == 2, 20)
    os.kill(parent.pid, sent)
    parent.wait(10)
    wait_for(lambda: not exporters(tmp_path), 20)


def test_a_part_records_its_precision_and_parity(patch_checkpoint: Path, tmp_path: Path) -> None:
    options = ExportOptions(text_encoder_precisions=("fp16",))

    record = graphs.export_component(
        Checkpoint.open(patch_checkpoint), TEXT_ENCODER, tmp_path, options
    )

    written = ComponentRecord.model_validate_json((tmp_path / COMPONENT_FILE).read_text())
    assert written == record
    assert "encoder.block.*.layer.*.DenseReluDense.wo" in written.kept_fp32
    (parity,) = (graph.parity for graph in written.graphs)
    assert parity is not None
    assert parity.limit_cosine == 0.98
    assert 0.999 < parity.cosine < 1
