"""``models``: supported families and local checkpoints."""

from __future__ import annotations

import json
import shutil

import pytest

from cli.commands.catalogue import hub_cache, size_of
from cli.main import run
from pipeline.families import FAMILIES


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TRITON_VIDEO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "hub"


def listed(capsys):
    assert run(["models", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def add(hub, name, checkpoint, commit, *, main=True):
    folder = hub / f"models--{name.replace('/', '--')}"
    shutil.copytree(checkpoint, folder / "snapshots" / commit)
    if main:
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text(commit)
    return folder / "snapshots" / commit


def test_families_and_the_bundled_checkpoint(hub, capsys):
    found_models = listed(capsys)
    assert [family["name"] for family in found_models["families"]] == list(FAMILIES)
    (bundled,) = found_models["checkpoints"]
    assert (bundled["model_path"], bundled["family"], bundled["problem"]) == (
        "(bundled)",
        "wan2.2-ti2v",
        None,
    )
    assert bundled["bytes"] > 1 << 20
    assert found_models["caches"] == {}


def test_checkpoints_of_the_hub(hub, capsys, checkpoint, tmp_path):
    add(hub, "Org/Whole", checkpoint, "c0ffee")
    add(hub, "Org/Old", checkpoint, "beef", main=False)
    broken = add(hub, "Org/Broken", checkpoint, "dead")
    (broken / "vae" / "config.json").unlink()
    (hub / "models--Org--TextOnly" / "snapshots" / "1").mkdir(parents=True)
    (tmp_path / "cache" / "parts").mkdir(parents=True)
    (tmp_path / "cache" / "parts" / "x").write_bytes(b"12345")
    found_models = listed(capsys)
    found = {each["model_path"]: each["problem"] for each in found_models["checkpoints"]}
    assert list(found) == ["(bundled)", "Org/Broken", "Org/Old@beef", "Org/Whole"]
    assert found["Org/Whole"] is found["Org/Old@beef"] is None
    assert "vae/config.json" in found["Org/Broken"]
    assert found_models["caches"] == {str(tmp_path / "cache" / "parts"): 5}


def test_table(hub, capsys, checkpoint):
    add(hub, "Org/Whole", checkpoint, "c0ffee")
    assert run(["models"]) == 0
    out = capsys.readouterr().out
    assert "wan2.1-i2v" in out
    assert [line.split()[-1] for line in out.splitlines() if line.startswith("Org/Whole")] == [
        "ready"
    ]


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({"HF_HUB_CACHE": "/a", "HF_HOME": "/b"}, "/a"),
        ({"HF_HOME": "/b", "XDG_CACHE_HOME": "/c"}, "/b/hub"),
        ({"XDG_CACHE_HOME": "/c"}, "/c/huggingface/hub"),
    ],
)
def test_hub_cache_folder(environment, folder):
    assert str(hub_cache(environment)) == folder


def test_hard_linked_file_counts_once(tmp_path):
    (tmp_path / "a").write_bytes(bytes(1000))
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    assert size_of(tmp_path) == 1000
