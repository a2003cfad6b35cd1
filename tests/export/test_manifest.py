"""A manifest of an earlier format is read, and one of a later format is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from export.manifest import FILE_NAME, Manifest
from pipeline.errors import CheckpointError

GRAPH = {
    "name": "model",
    "file": "model.onnx",
    "nodes": 7,
    "least": {"INPUT_IDS": [1, 1]},
    "usual": {"INPUT_IDS": [1, 64]},
    "most": {"INPUT_IDS": [2, 512]},
}
FORMAT_1 = {
    "format": 1,
    "created": "2026-01-02T03:04:05Z",
    "model": "tiny-shapes",
    "family": "wan2.1-t2v",
    "source": {"path": "/models/shapes", "files": []},
    "options": {"flavour": "python"},
    "precision": "fp32",
    "versions": {"torch": "2.9.0"},
    "components": [
        {
            "part": "text_encoder",
            "class_name": "UMT5EncoderModel",
            "precision": "fp32",
            "graphs": [GRAPH],
        }
    ],
    "files": [],
}


def load(folder: Path, manifest: object) -> Manifest:
    (folder / FILE_NAME).write_text(json.dumps(manifest))
    return Manifest.load(folder)


def test_a_manifest_of_format_1_is_read(tmp_path: Path) -> None:
    manifest = load(tmp_path, FORMAT_1)
    (graph,) = manifest.components[0].graphs
    assert graph.min == {"INPUT_IDS": (1, 1)}
    assert graph.opt == {"INPUT_IDS": (1, 64)}
    assert graph.max == {"INPUT_IDS": (2, 512)}


def test_it_is_written_in_the_newest_format(tmp_path: Path) -> None:
    manifest = load(tmp_path, FORMAT_1)
    manifest.save(tmp_path)
    written = json.loads((tmp_path / FILE_NAME).read_text())
    assert written["format"] == 2
    assert {"min", "opt", "max"} <= set(written["components"][0]["graphs"][0])
    assert not {"least", "usual", "most"} & set(written["components"][0]["graphs"][0])
    assert Manifest.load(tmp_path) == manifest


@pytest.mark.parametrize("found", [0, 3, "1", None])
def test_an_unknown_format_is_refused(tmp_path: Path, found: object) -> None:
    with pytest.raises(CheckpointError, match=r"is not a manifest of this version: .*format"):
        load(tmp_path, {**FORMAT_1, "format": found})
