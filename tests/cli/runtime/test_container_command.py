"""The rights, mounts and variables of a container, in its command line."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from cli.runtime.container_command import Container, folders_of
from cli.runtime.endpoints import Sockets
from cli.runtime.engine import Engine

SOCKETS = Sockets(Path("/tmp/run/sockets"))


@pytest.fixture
def container(tmp_path: Path) -> Container:
    return Container(
        engine=Engine("docker", "/bin/docker"), image="an-image",
        cache=tmp_path / "cache", checkpoint=tmp_path / "model",
        gpus=False, variables={"OMP_NUM_THREADS": "2", "HOME": "/h", "AWS_SECRET_ACCESS_KEY": "s",
        "NVIDIA_API_KEY": "n", "NCCL_AUTH_TOKEN": "t",
        "TRITON_VIDEO_API_KEYS": "k", "DOCKER_HOST": "unix:///x", "PATH": "/bin"},
    )  # fmt: skip


def values(argv: list[str], flag: str) -> list[str]:
    return [value for word, value in pairwise(argv) if word == flag]


def mounts(argv: list[str]) -> list[tuple[str, bool]]:
    rows = [next(csv.reader([text])) for text in values(argv, "--mount")]
    rows = [row for row in rows if row[2] != "target=/sockets"]
    assert all(row[1].partition("=")[2] == row[2].partition("=")[2] for row in rows)
    return [(row[1].removeprefix("source="), "readonly" in row) for row in rows]


@pytest.mark.parametrize("engine", ["docker", "podman"])
def test_container_has_few_rights_and_is_removed(container, engine):
    found = replace(container, engine=Engine(engine, f"/bin/{engine}"))
    for argv in (found.serving("name", "/r", SOCKETS), found.preparing("name", "{}")):
        assert argv[:3] == [f"/bin/{engine}", "run", "--rm"]
        assert {"--read-only", "--init", "--interactive"} <= set(argv)
        assert values(argv, "--cap-drop") == ["ALL"]
        assert values(argv, "--security-opt") == ["no-new-privileges"]
        assert values(argv, "--user") == [f"{os.getuid()}:{os.getgid()}"]
        assert values(argv, "--pull") == ["never"]
        assert values(argv, "--name") == ["name"]
        assert values(argv, "--label") == ["triton-video.run=name"]
        assert values(argv, "--network") == ["none"]
        assert int(values(argv, "--pids-limit")[0]) < 10_000
        options = argv[: argv.index(found.image)]  # `-P` behind it is Python's
        assert not {"--privileged", "--publish-all", "-P"} & set(options)


def test_container_listens_on_sockets_and_publishes_no_port(container):
    argv = container.serving("name", "/r", SOCKETS)
    assert values(argv, "--publish") == []
    assert values(argv, "--host") == ["unix:/sockets"]
    assert "type=bind,source=/tmp/run/sockets,target=/sockets" in values(argv, "--mount")


def test_only_the_preparing_container_can_write_the_cache(container):
    cache, model = str(container.cache), str(container.checkpoint)
    assert mounts(container.serving("name", "/r", SOCKETS)) == [(cache, True), (model, True)]
    preparing = container.preparing("name", "{}")
    assert mounts(preparing) == [(cache, False), (model, True)]
    assert values(preparing, "--network") == ["none"]


def test_loras_are_mounted_to_be_read(container, tmp_path):
    loras = (tmp_path / "a.safetensors", tmp_path / "folder")
    found = mounts(replace(container, loras=loras).serving("name", "/r", SOCKETS))
    assert found[2:] == [(str(path), True) for path in loras]


def test_path_with_a_comma_is_quoted(container, tmp_path):
    assert (str(tmp_path / 'a,"b'), True) in mounts(
        replace(container, checkpoint=tmp_path / 'a,"b').serving("n", "/r", SOCKETS)
    )


def test_linked_blob_folder_is_mounted(tmp_path):
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "1"
    (snapshot / "vae").mkdir(parents=True)
    blobs.mkdir()
    (blobs / "7").touch()
    (snapshot / "vae" / "config.json").symlink_to("../../../blobs/7")
    (snapshot / "same").symlink_to("vae/config.json")
    assert folders_of(snapshot) == [snapshot, blobs]


def test_links_in_a_checkpoint_mount_no_other_folder(tmp_path):
    """Whoever made the checkpoint would otherwise choose which folders of the host the container
    reads.
    """
    (tmp_path / "private").mkdir()
    (tmp_path / "private/key").write_text("secret")
    (tmp_path / "model").mkdir()
    (tmp_path / "model/notes").symlink_to(tmp_path / "private/key")
    assert folders_of(tmp_path / "model") == [tmp_path / "model"]


def test_variables_are_passed_by_name_without_secrets(container):
    argv = container.serving("name", "/r", SOCKETS)
    assert "OMP_NUM_THREADS" in values(argv, "--env")
    assert "2" not in argv
    assert not [word for word in argv if "SECRET" in word or "API_KEY" in word or "TOKEN" in word]
    assert container.client_environment() == {
        "OMP_NUM_THREADS": "2", "HOME": "/h", "DOCKER_HOST": "unix:///x", "PATH": "/bin",
    }  # fmt: skip


@pytest.mark.parametrize(("engine", "device"), [("docker", "--gpus"), ("podman", "--device")])
def test_gpus_are_requested_if_present(container, engine, device):
    found = replace(container, engine=Engine(engine, "e"), gpus=True)
    argv = found.serving("name", "/r", SOCKETS)
    assert device in argv
    assert values(argv, "--ulimit") == ["memlock=-1", "stack=67108864"]
    assert device not in replace(found, gpus=False).serving("name", "/r", SOCKETS)


def test_rootless_podman_keeps_the_user_id(container, monkeypatch):
    monkeypatch.setattr("os.getuid", lambda: 1234)
    podman = replace(container, engine=Engine("podman", "podman"))
    assert values(podman.preparing("n", "{}"), "--userns") == ["keep-id"]
    assert values(container.preparing("n", "{}"), "--userns") == []


def test_the_request_is_one_word(container):
    request = json.dumps({"name": 'a "b" $c'})
    assert container.preparing("n", request)[-1] == request
