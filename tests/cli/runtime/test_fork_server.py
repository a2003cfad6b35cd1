"""The fork server of a run starts in the background, and leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from cli.runtime import fork_server as module
from cli.runtime.fork_server import KeptForkServer, modules_for
from pipeline.checkpoint.folder import Checkpoint
from pipeline.errors import ServerError
from pipeline.system.own_modules import FOLDER
from tests.conftest import SHAPES
from tests.waiting import wait_for

PROGRAM = "tests.pipeline.system.fork_program"


@pytest.fixture(autouse=True)
def private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "modules_for", lambda checkpoint: ("json",))


@pytest.mark.usefixtures("light")
def test_a_fork_server_is_private_and_leaves_nothing_behind(tmp_path: Path) -> None:
    before = psutil.Process().children()  # of fixtures of the whole run
    server = KeptForkServer(Checkpoint.open(SHAPES))
    try:
        process = server.ready()(PROGRAM, "sleep")
        wait_for(lambda: process.pid, 30)
        assert server.path.parent.stat().st_mode & 0o077 == 0
    finally:
        server.stop()
    assert process.wait(10) == -9
    assert list(tmp_path.iterdir()) == []
    assert psutil.Process().children() == before


def test_a_killed_owner_leaves_nothing_behind(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path\n"
        "from cli.runtime import fork_server\n"
        "from pipeline.checkpoint.folder import Checkpoint\n"
        "fork_server.modules_for = lambda checkpoint: ('json',)\n"
        "server = fork_server.KeptForkServer(Checkpoint.open(Path(sys.argv[1])))\n"
        f"fork = server.ready()({PROGRAM!r}, 'stop')\n"
        "while not fork.pid: time.sleep(0.01)\n"
        "print(fork.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(SHAPES)], cwd=FOLDER, stdout=subprocess.PIPE
    ) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        owner.kill()
    wait_for(lambda: not psutil.pid_exists(pid) and not list(tmp_path.iterdir()), 30)


def test_a_fork_server_that_fails_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "command", lambda *words: [sys.executable, "-c", "1 / 0"])
    server = KeptForkServer(Checkpoint.open(SHAPES))
    try:
        with pytest.raises(ServerError, match="imports torch did not start: ZeroDivisionError"):
            server.ready()
    finally:
        server.stop()


def test_tokenizers_are_imported_first() -> None:
    first, *others = modules_for(Checkpoint.open(SHAPES))
    assert first == "transformers:AutoTokenizer"
    assert {"diffusers:AutoencoderKLWan", "transformers:UMT5EncoderModel"} <= set(others)


def test_the_classes_of_an_image_encoder_are_imported_too(
    build_family: Callable[[str], Path],
) -> None:
    modules = modules_for(Checkpoint.open(build_family("wan2.1-i2v")))
    assert any("CLIPVisionModel" in name for name in modules)
