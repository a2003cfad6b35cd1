"""A compiler that dies, hangs or is no longer wanted: a finding, and never a process that stays."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from export.tensorrt import process
from export.tensorrt.findings import Request
from tests.export.tensorrt import graphs
from tests.waiting import wait_for

ROOT = Path(__file__).resolve().parents[3]


def request_for(folder: Path, **options) -> Request:
    return Request(
        library="tensorrt_rtx",
        onnx=graphs.good(folder),
        graph=graphs.record(),
        target="sm89",
        **options,
    )


def workers(parent: int | None = None) -> list[psutil.Process]:
    children = psutil.Process(parent).children(recursive=True)
    alive = [child for child in children if child.status() != psutil.STATUS_ZOMBIE]
    return [child for child in alive if "export.tensorrt.worker" in child.cmdline()]


def test_a_compiler_that_is_killed_is_a_finding(tmp_path: Path) -> None:
    # opening it blocks, so that the compiler cannot finish before it is killed
    os.mkfifo(pipe := tmp_path / "pipe.onnx")
    request = request_for(tmp_path).model_copy(update={"onnx": pipe})
    killer = threading.Thread(target=lambda: (wait_for(workers, 20), workers()[0].kill()))
    killer.start()
    found = process.run(request, lambda percent: None, timeout=60)
    killer.join()
    assert not found.ok
    assert found.findings == ("the compiler was killed by SIGKILL, as when memory runs out",)


def test_a_compiler_that_takes_too_long_is_stopped(tmp_path: Path) -> None:
    found = process.run(request_for(tmp_path), lambda percent: None, timeout=0.05)
    assert found.findings == ("the compiler took too long and was stopped",)
    assert workers() == []


def test_an_exception_in_the_compiler_is_a_finding(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    found = process.run(
        request_for(tmp_path, plan=blocked / "model.plan"), lambda percent: None, timeout=60
    )
    assert not found.ok
    assert found.findings[0].startswith("the compiler stopped: ")
    assert str(blocked) in found.findings[0]


def test_a_progress_callback_may_stop_the_compiler(tmp_path: Path) -> None:
    def stop(percent: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        process.run(request_for(tmp_path), stop, timeout=60)
    assert workers() == []


def test_a_compiler_ends_with_its_parent(tmp_path: Path) -> None:
    request = request_for(tmp_path)
    script = (
        "import sys, time; from export.tensorrt import process;"
        "from export.tensorrt.findings import Request;"
        "request = Request.model_validate_json(sys.argv[1]);"
        "process.run(request, lambda percent: time.sleep(60), timeout=60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script, request.model_dump_json()], cwd=ROOT)
    wait_for(lambda: workers(parent.pid), 20)
    (worker,) = workers(parent.pid)
    parent.kill()
    parent.wait(10)
    wait_for(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE, 20)
