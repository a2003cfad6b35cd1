"""``triton-video export`` around its parts: plan, manifest, cache, what a user may do wrong. The
parts are quick.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.main import run
from export import child, plan
from export.manifest import Manifest
from export.repository import part_folder
from pipeline.families import FAMILIES
from tests.cli.conftest import Outcome
from tests.conftest import ROOT, SHAPES
from tests.pipeline.checkpoint.hub_server import COMMIT, Hub, serving
from tests.waiting import wait_for

QUICK_COMMAND = (
    "from export import child; child.MODULE = 'tests.export.quick_part'; "
    "from cli.main import main; main()"
)
Call = Callable[..., Outcome]


@pytest.fixture
def quick(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, note_shapes_sound: Callable[[Path], None]
) -> Path:
    """Parts of a few bytes, and the folder that says how they fare (see
    `tests.export.quick_part`).
    """
    for name in [name for name in os.environ if name.startswith("TRITON_VIDEO_")]:
        monkeypatch.delenv(name)
    folder = tmp_path / "quick"
    folder.mkdir()
    monkeypatch.setattr(child, "MODULE", "tests.export.quick_part")
    monkeypatch.setattr(child, "PARITY_MODULE", "tests.export.quick_parity")
    monkeypatch.setenv("QUICK_PART", str(folder))
    monkeypatch.setenv("TRITON_VIDEO_CACHE", str(tmp_path / "cache"))
    note_shapes_sound(tmp_path / "cache")
    return folder


@pytest.fixture
def export(quick: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Call:
    def call(*arguments: object, model: Path = SHAPES) -> Outcome:
        words = [
            "export",
            "--model-path",
            str(model),
            "--output",
            str(tmp_path / "repo"),
            *map(str, arguments),
        ]
        return Outcome(run(words), *capsys.readouterr())

    return call


@pytest.mark.parametrize("flag", ["--output", "--output-path", "--output-path="])
def test_folder_has_two_flags(
    quick: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flag: str
) -> None:
    repo = str(tmp_path / "repo")
    words = [f"{flag}{repo}"] if flag.endswith("=") else [flag, repo]
    assert run(["export", "--model-path", str(SHAPES), *words]) == 0
    assert capsys.readouterr().out == f"{repo}\n"


def hidden(folder: Path) -> list[Path]:
    return [path for path in folder.rglob(".*") if path.is_dir()]


def test_a_repository_and_its_manifest(export: Call, tmp_path: Path) -> None:
    done = export("--text-encoder-precisions", "fp16", "--vae-engine", "tile", "--threads", "2")
    assert (done.code, done.out) == (0, f"{tmp_path}/repo\n")
    repo = tmp_path / "repo"
    manifest = Manifest.load(repo)
    files = {str(path.relative_to(repo)) for path in repo.rglob("*") if path.is_file()} - {
        "manifest.json"
    }
    assert {file.path for file in manifest.files} == files
    assert {
        "text_encoder/1/model.onnx",
        "tokenizer/1/tokenizer.json",
        "vae_decoder/1/first.onnx",
    } <= files
    assert manifest.source.path == str(SHAPES)
    assert "transformer/diffusion_pytorch_model.safetensors" in {
        file.path for file in manifest.source.files
    }
    assert [(c.part, c.precision) for c in manifest.components] == [
        ("text_encoder", "fp16"),
        ("vae_encoder", "fp32"),
        ("vae_decoder", "fp32"),
    ]
    stage = json.loads((repo / "dit/1/stage.json").read_text())
    assert (stage["checkpoint"], stage["threads"]) == (str(SHAPES), 2)
    assert hidden(tmp_path) == []


def test_ranks_reach_the_stages(export: Call, tmp_path: Path) -> None:
    assert export("--num-gpus", "4", "--ring-degree", "2").code == 0
    stage = json.loads((tmp_path / "repo/dit/1/stage.json").read_text())
    assert (stage["ulysses_degree"], stage["ring_degree"], stage["guidance_branches"]) == (2, 2, 1)


def test_ranks_that_contradict_are_refused(export: Call, tmp_path: Path) -> None:
    refused = export("--num-gpus", "2", "--ulysses-degree", "4")
    assert (refused.code, refused.errors) == (2, ["ulysses_degree: 4 is more than num_gpus 2"])
    assert not (tmp_path / "repo").exists()


def test_json_is_the_manifest(export: Call, tmp_path: Path) -> None:
    assert json.loads(export("--json").out) == json.loads(
        (tmp_path / "repo/manifest.json").read_text()
    )


def test_dry_run_writes_nothing(export: Call, quick: Path, tmp_path: Path) -> None:
    done = export("--dry-run")
    assert done.code == 0
    assert "vae_decoder" in done.out
    assert "needed" in done.out
    assert not (tmp_path / "repo").exists()
    assert list(quick.iterdir()) == []
    parts = json.loads(export("--dry-run", "--json").out)["parts"]
    assert [part["cached"] for part in parts] == [False, False, False]
    export("--quiet")
    assert "in the cache" in export("--dry-run").out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["--flavour", "tensort"],
            "flavour: should be auto, python, onnxruntime or tensorrt, not tensort; did you mean",
        ),
        (["--check", "sm90x"], "check: "),
        (["--vae-precision", "bf16"], "vae_precision: bf16 needs the flavour tensorrt"),
        (
            ["--text-encoder-precisions", "bf16"],
            "text_encoder_precisions: bf16 needs the flavour tensorrt",
        ),
        (
            ["--text-encoder-precisions", "int8"],
            "text_encoder_precisions: should be fp32, bf16 or fp16",
        ),
        (["--outptu", "x"], "no such option --outptu; did you mean --output?"),
    ],
)  # fmt: skip
def test_wrong_parameters(export: Call, words: list[str], sentence: str) -> None:
    done = export(*words)
    assert done.code == 2
    assert done.errors[0].startswith(sentence)


def test_existing_repository_stays_without_overwrite(export: Call, tmp_path: Path) -> None:
    export()
    before = (tmp_path / "repo/manifest.json").stat().st_ino
    refused = export("--precision", "bf16")
    assert (refused.code, refused.errors) == (
        5,
        [f"{tmp_path}/repo exists; choose another --output, or --overwrite it"],
    )
    assert (tmp_path / "repo/manifest.json").stat().st_ino == before
    assert export("--precision", "bf16", "--overwrite").code == 0
    assert Manifest.load(tmp_path / "repo").precision == "bf16"
    assert hidden(tmp_path) == []


def test_foreign_folder_is_never_replaced(export: Call, tmp_path: Path) -> None:
    (tmp_path / "repo").mkdir()
    (tmp_path / "repo/thesis.tex").touch()
    refused = export("--overwrite")
    assert refused.code == 5
    assert "is not an exported repository, so it is not replaced" in refused.errors[0]
    assert (tmp_path / "repo/thesis.tex").exists()


def test_too_little_disk_space_is_reported_early(
    export: Call, quick: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "MARGIN_BYTES", 1 << 60)
    refused = export()
    assert refused.code == 5
    assert "free, and the export may take 1152921.5 TB there; free space" in refused.errors[-1]
    assert list(quick.iterdir()) == []
    assert not (tmp_path / "repo").exists()


def test_a_part_that_fails_is_one_sentence_and_the_next_run_continues(
    export: Call, quick: Path, tmp_path: Path
) -> None:
    (quick / "fail.vae_decoder").touch()
    failed = export()
    assert failed.code == 3
    assert (
        failed.errors[-1]
        == f"the vae_decoder of {SHAPES} cannot be exported: the test made it fail"
    )
    assert not (tmp_path / "repo").exists()
    (quick / "fail.vae_decoder").unlink()
    assert export().code == 0


def test_kill_9_loses_only_the_current_part(export: Call, quick: Path, tmp_path: Path) -> None:
    (quick / "wait.vae_decoder").touch()
    words = ["export", "--model-path", str(SHAPES), "--output", str(tmp_path / "repo"), "-q"]
    first = subprocess.Popen([sys.executable, "-c", QUICK_COMMAND, *words], cwd=ROOT)
    parts = tmp_path / "cache/parts"
    wait_for(lambda: list(quick.glob("vae_decoder-*")))
    wait_for(lambda: list(parts.glob("text_encoder-*/component.json")))
    (done,) = parts.glob("text_encoder-*/component.json")
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    made_at = done.stat().st_mtime_ns
    assert not (tmp_path / "repo").exists()
    (quick / "wait.vae_decoder").unlink()
    assert export().code == 0
    assert done.stat().st_mtime_ns == made_at, "the part that was done is the same"
    assert len(list(quick.glob("text_encoder-*"))) == 1
    assert len(list(quick.glob("vae_decoder-*"))) == 2
    assert hidden(tmp_path / "cache") == []


@pytest.mark.exhaustive
def test_every_family_is_exported_whether_or_not_it_can_be_served(
    export: Call, quick: Path, tmp_path: Path, family_checkpoint: Path
) -> None:
    family = FAMILIES[family_checkpoint.name]
    assert export(model=family_checkpoint).code == 0
    repo = tmp_path / "repo"
    assert [component.part for component in Manifest.load(repo).components] == [
        part.name for part in family.parts
    ]
    assert all(list(part_folder(repo, part.name).glob("*.onnx")) for part in family.parts)
    assert {path.parent.name for path in repo.glob("*/config.pbtxt")} == {
        p.name for p in repo.iterdir() if p.is_dir()
    }
    assert run(["export", "verify", str(repo), "-q"]) == 0


def test_unknown_family_lists_the_known_ones(export: Call, tmp_path: Path) -> None:
    shutil.copytree(SHAPES, tmp_path / "other")
    index = tmp_path / "other/model_index.json"
    index.write_text(index.read_text().replace("WanPipeline", "OtherPipeline"))
    refused = export(model=tmp_path / "other")
    assert refused.code == 3
    assert "OtherPipeline" in refused.errors[0]
    assert all(name in refused.errors[0] for name in FAMILIES)


def test_a_missing_shard_is_named(export: Call, plain_checkpoint: Path, tmp_path: Path) -> None:
    shutil.copytree(plain_checkpoint, tmp_path / "broken")
    shard = next((tmp_path / "broken/transformer").glob("*-00002-of-*.safetensors"))
    shard.unlink()
    refused = export(model=tmp_path / "broken")
    assert (refused.code, refused.errors) == (3, [f"{shard} is missing"])


def test_a_truncated_checkpoint(export: Call, tmp_path: Path) -> None:
    shutil.copytree(SHAPES, tmp_path / "broken")
    weights = tmp_path / "broken/transformer/diffusion_pytorch_model.safetensors"
    os.truncate(weights, weights.stat().st_size - 5)
    refused = export(model=tmp_path / "broken")
    assert refused.code == 3
    assert refused.errors[0].startswith(f"{weights} is cut short or damaged: ")


def test_inspect(export: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export("--vae-precision", "fp16")
    capsys.readouterr()
    assert run(["export", "inspect", str(tmp_path / "repo")]) == 0
    text = capsys.readouterr().out
    assert "shapes (wan2.2-ti2v), exported 20" in text
    assert [line.split()[:4] for line in text.splitlines() if line.startswith("vae_decoder")] == [
        ["vae_decoder", "Quick", "fp16", "first"],
        ["vae_decoder", "Quick", "fp16", "next"],
    ]
    assert run(["export", "inspect", str(tmp_path / "repo"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["options"]["vae_precision"] == "fp16"


def test_verify_names_what_changed(
    export: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model"
    shutil.copytree(SHAPES, model)
    export(model=model)
    repo = tmp_path / "repo"
    verify = ["export", "verify", str(repo), "-q"]
    assert run(verify) == 0
    assert capsys.readouterr().out == f"{repo}\n"
    graph, times = repo / "vae_decoder/1/next.onnx", (repo / "vae_decoder/1/next.onnx").stat()
    content = bytearray(graph.read_bytes())
    content[3] ^= 1
    graph.write_bytes(content)
    # as a bad disk does: nothing but the content changed
    os.utime(graph, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert run(verify) == 3
    assert f"{graph} is not what was exported" in capsys.readouterr().err
    content[3] ^= 1
    graph.write_bytes(content)
    (model / "model_index.json").unlink()
    (repo / "dit/1/model.py").unlink()
    assert run(["export", "verify", str(repo)]) == 3
    printed = capsys.readouterr().err
    assert f"{model}/model_index.json is missing" in printed
    assert (
        f"{repo}/dit/1/model.py is missing (2 files are at fault); export the checkpoint again"
        in printed
    )


def test_verify_compares_with_torch(
    export: Call, quick: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export()
    (quick / "differs.vae_decoder").touch()
    assert run(["export", "verify", str(tmp_path / "repo")]) == 3
    printed = capsys.readouterr().err
    assert "text_encoder: equals torch" in printed
    assert (
        f"{tmp_path}/repo/vae_decoder/1: first differs from torch; export the checkpoint again"
        in printed
    )


@pytest.mark.parametrize("name", ["inspect", "verify"])
def test_a_folder_without_a_manifest(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["export", name, str(tmp_path)]) == 3
    assert "is not an exported repository: it has no manifest.json" in capsys.readouterr().err


def test_options_before_a_command_are_not_dropped(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", "--json", "inspect", "x"]) == 2
    assert "put the options of inspect after its name" in capsys.readouterr().err


def test_a_checkpoint_on_a_hub(quick: Path, tmp_path: Path) -> None:
    """In a process of its own: huggingface_hub reads its variables when it is imported."""
    with serving(Hub(SHAPES, "acme/tiny-shapes")) as hub:
        variables = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "0"}
        words = [
            "--model-path",
            "acme/tiny-shapes@main",
            "--output",
            str(tmp_path / "repo"),
            "--json",
            "-q",
        ]
        command = [sys.executable, "-c", QUICK_COMMAND, "export", *words]

        def call(*more: str) -> dict:
            environment = {**os.environ, **variables}
            done = subprocess.run(
                [*command, *more], cwd=ROOT, env=environment, capture_output=True, check=True
            )
            return json.loads(done.stdout)

        planned = call("--dry-run")["download"]
        assert planned["missing"]["vae"] > 3_000_000
        assert not (tmp_path / "repo").exists()
        source = call()["source"]
    assert (source["repository"], source["revision"]) == ("acme/tiny-shapes", COMMIT)
    assert source["path"].startswith(f"{tmp_path}/hf/hub/models--acme--tiny-shapes/snapshots/")
    assert Manifest.load(tmp_path / "repo").model == "tiny-shapes"
