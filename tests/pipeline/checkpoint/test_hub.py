"""Checkpoints are located by repository name: huggingface_hub runs against a local hub server."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import constants

from export.hashes import FileHashes
from pipeline.checkpoint import hub as module
from pipeline.checkpoint.hub import locate, missing
from pipeline.errors import CheckpointError, InputError, OutputError
from tests.conftest import SHAPES
from tests.pipeline.checkpoint.hub_server import COMMIT, Hub, serving

NAME = Path("acme/tiny-shapes")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    folder = tmp_path / "served"
    shutil.copytree(SHAPES, folder)
    (folder / "README.md").write_text("words")
    (folder / "vae" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"half")
    (folder / "text_encoder" / "pytorch_model.bin").write_bytes(b"pickle")
    with serving(Hub(folder, str(NAME))) as server:
        # The library reads its variables once, when it is imported.
        point_to(server.url, monkeypatch)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        yield server


def point_to(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    # Between tries of a hub that does not answer, which take half a minute.
    monkeypatch.setattr(
        "huggingface_hub.utils._http.time",
        SimpleNamespace(time=time.time, sleep=lambda seconds: None),
    )


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_retries_of_a_hub_that_does_not_answer_are_logged_once(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    nowhere = "http://127.0.0.1:9"
    point_to(nowhere, monkeypatch)
    with pytest.raises(CheckpointError, match=f"{nowhere} cannot be reached"):
        locate(NAME)
    assert caplog.messages == [f"{nowhere} does not answer; trying again"]


def test_only_the_files_a_checkpoint_needs_are_downloaded(hub: Hub) -> None:
    told: list[str] = []
    origin = locate(NAME, on_progress=told.append)
    assert (origin.repository, origin.revision) == ("acme/tiny-shapes", COMMIT)
    assert names(origin.path) == names(SHAPES)
    assert told == ["downloading 13.7 MB from the hub"]
    checkpoint = origin.open()
    assert (checkpoint.info.name, checkpoint.family.name) == ("tiny-shapes", "wan2.2-ti2v")


def test_a_cached_checkpoint_is_found_again_and_offline(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = locate(NAME)
    assert missing(NAME).total == 0
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert locate(NAME) == first
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    point_to("http://127.0.0.1:9", monkeypatch)
    assert locate(NAME) == first


@pytest.mark.parametrize("name", [f"{NAME}@{COMMIT}", f"{NAME}@main"])
def test_a_revision_may_follow_the_name(hub: Hub, name: str) -> None:
    assert locate(Path(name)).revision == COMMIT


def test_missing_reports_the_download_size_without_downloading(hub: Hub) -> None:
    download = missing(NAME)
    assert set(download.missing) >= {"transformer", "vae", "text_encoder", "tokenizer"}
    assert download.missing["transformer"] == sum(
        f.stat().st_size for f in (SHAPES / "transformer").iterdir()
    )
    assert not [line for line in hub.asked if "GET" in line and ".safetensors" in line]


def test_too_little_disk_is_reported_before_the_download(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        module.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9, 8, 10**6)
    )
    with pytest.raises(
        OutputError, match=r"has 1\.0 MB free, and acme/tiny-shapes takes 13\.7 MB more; free space"
    ):
        locate(NAME)
    assert not [line for line in hub.asked if "GET" in line and ".safetensors" in line]


def test_an_unknown_family_is_refused_before_the_download(hub: Hub) -> None:
    index = hub.folder / "model_index.json"
    index.write_text(index.read_text().replace("WanPipeline", "OtherPipeline"))
    with pytest.raises(CheckpointError, match="OtherPipeline"):
        locate(NAME)
    assert not [line for line in hub.asked if ".safetensors" in line]


@pytest.mark.parametrize(
    ("name", "refusal", "sentence"),
    [
        ("acme/other", None, "acme/other is neither a folder here nor on http://127"),
        (
            "acme/tiny-shapes",
            "GatedRepo",
            "acme/tiny-shapes is gated: accept its terms at http://127",
        ),
        ("acme/tiny-shapes@v9", None, "acme/tiny-shapes has no revision v9"),
        (
            "acme/tiny-shapes",
            "EntryNotFound",
            "acme/tiny-shapes has no model_index.json, so it is no Diffusers",
        ),
    ],
)
def test_a_refusal_of_the_hub_is_explained_in_one_line(
    hub: Hub, name: str, refusal: str | None, sentence: str
) -> None:
    hub.refusal = refusal
    with pytest.raises(CheckpointError) as caught:
        locate(Path(name))
    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)


def test_a_token_opens_a_gated_repository(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.token = "secret"
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert locate(NAME).revision == COMMIT


@pytest.mark.parametrize(
    ("offline", "reason"), [(True, "HF_HUB_OFFLINE is set"), (False, "cannot be reached")]
)
def test_an_uncached_checkpoint_without_a_hub_is_an_error(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, offline: bool, reason: str
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    point_to("http://127.0.0.1:9", monkeypatch)
    with pytest.raises(
        CheckpointError, match=rf"^acme/tiny-shapes is neither a folder .*, and .*{reason}$"
    ):
        locate(NAME)


def test_hashing_detects_a_damaged_download(hub: Hub, tmp_path: Path) -> None:
    weights = locate(NAME).path / "vae/diffusion_pytorch_model.safetensors"
    hashes = FileHashes(tmp_path / "hashes")
    assert len(hashes.of(weights)) == 64
    with weights.resolve().open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x7f")
    with pytest.raises(
        CheckpointError, match=r"vae/.* is damaged: its sha256 is .*, and the hub says .*; delete "
    ):
        hashes.of(weights)


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        (
            "model.fp16.safetensors",
            r"model\.fp16\.safetensors is a variant; rename it, or load it with diffusers",
        ),
        (
            "pytorch_model.bin",
            r"pytorch_model\.bin is a pickle, which is not loaded; export --allow-pickle converts "
            r"it",
        ),
        ("umt5-Q8_0.gguf", r"umt5-Q8_0\.gguf holds GGUF weights"),
    ],
)
def test_unsupported_weights_are_refused_before_the_download(
    hub: Hub, name: str, instead: str
) -> None:
    (hub.folder / "text_encoder/pytorch_model.bin").unlink()
    (hub.folder / "text_encoder/model.safetensors").rename(hub.folder / "text_encoder" / name)
    with pytest.raises(
        CheckpointError,
        match=rf"^acme/tiny-shapes: text_encoder/model\.safetensors is missing \({instead}",
    ):
        locate(NAME)
    assert not [
        line
        for line in hub.asked
        if "GET" in line and "/resolve/" in line and ".safetensors" in line
    ]


def test_pickles_are_downloaded_with_allow_pickle(hub: Hub) -> None:
    (hub.folder / "text_encoder/model.safetensors").unlink()
    assert "text_encoder/pytorch_model.bin" in names(locate(NAME, allow_pickle=True).path)


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("pytorch_lora_weights.safetensors", "it holds a LoRA"),
        ("wan-Q4_K_M.gguf", "it holds GGUF weights"),
    ],
)
def test_the_error_names_the_kind_of_an_unsupported_repository(
    hub: Hub, file: str, kind: str
) -> None:
    shutil.rmtree(hub.folder)
    hub.folder.mkdir()
    (hub.folder / file).write_bytes(b"weights")
    with pytest.raises(
        CheckpointError,
        match=rf"has no model_index\.json, so it is no Diffusers checkpoint: {kind}",
    ):
        locate(NAME)


def test_a_local_folder_takes_precedence_and_has_no_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models/mine").mkdir(parents=True)
    assert locate(Path("models/mine")).path == tmp_path / "models/mine"
    with pytest.raises(
        InputError, match=r"^revision: is of a repository on a hub, and models/mine is a path"
    ):
        locate(Path("models/mine"), "main")
