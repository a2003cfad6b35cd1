"""Hostile and faulty checkpoints against the real command line: refused at once, with exit code
3 and one line.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT, SHAPES
from tests.hostile_checkpoints import TRANSFORMER, edit, keep_tensors, to_pipe, to_scaled_fp8
from tests.security.checkpoint_attacks import ATTACKS, Hostile
from tests.security.command_line import Ended, command

pytestmark = pytest.mark.program

After = Callable[[str], None]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SHAPES, tmp_path / "model"))


@pytest.fixture
def export(folder: Path, tmp_path: Path) -> Callable[[], Ended]:
    """Exports the folder of the test. It is named as a user would, and errors are shown without
    its path.
    """

    def run() -> Ended:
        ended = command(
            "export", "--model-path", folder, "--output", tmp_path / "out", cache=tmp_path / "cache"
        )
        return Ended(ended.code, ended.error.replace(f"{folder}/", "").replace(f"{ROOT}/", ""))

    return run


def _named(what: str, before: str, hostile: Hostile, now: str):
    return pytest.param(hostile, now, id=what, marks=pytest.mark.attack(what, before))


@pytest.mark.parametrize(("hostile", "now"), [_named(*row) for row in ATTACKS])
def test_a_hostile_checkpoint_is_refused(
    folder: Path, export: Callable[[], Ended], hostile: Hostile, now: str, after: After
) -> None:
    hostile(folder)
    ended = export()
    assert ended.code == 3, ended
    assert now in ended.error
    assert ended.error.isprintable()
    assert not (folder / "ran").exists()
    after(str(ended))


@pytest.mark.attack("model_index.json names foreign modules", "never imported")
def test_modules_in_the_index_are_never_imported(
    folder: Path, tmp_path: Path, after: After
) -> None:
    (tmp_path / "evil_module.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    index = json.loads((folder / "model_index.json").read_text())
    edit(
        folder / "model_index.json",
        **{
            name: ["evil_module", entry[1]]
            for name, entry in index.items()
            if isinstance(entry, list) and entry[1]
        },
        safety=["os", "system"],
    )
    words = ("export", "--model-path", folder, "--output", tmp_path / "out", "--dry-run")
    ended = command(*words, cache=tmp_path / "cache", PYTHONPATH=str(tmp_path))
    assert ended.code == 0, ended
    assert not (tmp_path / "ran").exists()
    after("never imported: a component's class is one that its family knows")


@pytest.mark.attack("a named pipe in the hub's cache, then `models`", "hung for ever")
def test_models_does_not_wait_for_a_pipe(folder: Path, tmp_path: Path, after: After) -> None:
    snapshot = tmp_path / "hub/models--acme--pipe/snapshots/1"
    shutil.copytree(folder, snapshot)
    to_pipe(snapshot / "model_index.json")
    ended = command("models", cache=tmp_path / "cache", HF_HUB_CACHE=str(tmp_path / "hub"))
    assert ended.code == 0, ended
    assert "model_index.json is not a regular file" in ended.error
    after("listed as not usable: not a regular file")


@pytest.mark.attack(
    "a transformer that lacks one tensor", "exit 0; another video each time for the same seed"
)
@pytest.mark.parametrize(
    "words",
    [
        ("generate", "--prompt", "a red circle", "--output-path", "."),
        ("serve", "--port", "0", "--data-path", "."),
        ("triton",),
    ],
)
def test_no_command_starts_with_a_tensor_missing(
    folder: Path, tmp_path: Path, words: tuple[str, ...], after: After
) -> None:
    keep_tensors(folder / TRANSFORMER, lambda name: name != "blocks.3.ffn.net.2.weight")
    words = tuple(str(tmp_path / "out") if word == "." else word for word in words)
    ended = command(*words, "--model-path", folder, cache=tmp_path / "cache")
    assert ended.code == 3, ended
    assert "needs blocks.3.ffn.net.2.weight, which no file holds" in ended.error
    after(f"{words[0]}: exit 3: transformer needs blocks.3.ffn.net.2.weight, which no file holds")


@pytest.mark.attack("scaled fp8 without quantization_config", "exit 0; a video of garbage")
def test_scaled_fp8_is_refused(folder: Path, export: Callable[[], Ended], after: After) -> None:
    to_scaled_fp8(folder / TRANSFORMER)
    ended = export()
    assert ended.code == 3
    assert "is of type F8_E4M3" in ended.error
    after(str(ended))


@pytest.mark.attack(
    "a pickle of 1 GiB in 1 MiB, with --allow-pickle",
    "read whole, 2.3 GB of memory, and advice to load it with weights_only=False",
)
def test_a_compressed_pickle_is_refused(folder: Path, tmp_path: Path, after: After) -> None:
    weights = folder / "vae/diffusion_pytorch_model.safetensors"
    weights.unlink()
    with zipfile.ZipFile(weights.with_suffix(".bin"), "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/version", "3\n")
        with archive.open("a/data.pkl", "w") as record:
            for _ in range(1 << 10):
                record.write(bytes(1 << 20))
    words = ("export", "--model-path", folder, "--output", tmp_path / "out", "--allow-pickle")
    ended = command(*words, cache=tmp_path / "cache")
    assert ended.code == 3, ended
    assert "is compressed, as torch.save() never writes it" in ended.error
    assert "weights_only" not in ended.error
    after("exit 3: compressed, and not read")
