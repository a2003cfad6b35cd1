"""Runs the tests of a faulty module in a copy of the project, and tells whether they notice."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = ("pipeline", "proxy", "export", "cli", "models", "tests", "triton_video")
OPTIONS = (
    *("-x", "-q", "-p", "no:cacheprovider", "-m", "not slow and not postgres and not s3"),
    *("-W", "ignore::pytest.PytestAssertRewriteWarning"),
)
PASSED, FAILED = 0, 1
POLL_S = 0.01

_copy = ROOT
_collected: set[Sequence[str]] = set()


def prepare(folder: Path) -> None:
    """Makes this process a worker with its own copy of the project under ``folder``."""
    global _copy
    _copy = folder / str(os.getpid())
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, stdout=subprocess.PIPE,
    ).stdout  # fmt: skip
    for name in filter(None, listed.decode().split("\0")):
        if (ROOT / name).is_file():
            (_copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, _copy / name)
    os.chdir(_copy)
    # Python recognises a cached module by its time in seconds and its size, and a fault may change
    # neither.
    sys.dont_write_bytecode = True
    os.environ.update(PYTHONPATH=str(_copy), PYTHONDONTWRITEBYTECODE="1", OMP_NUM_THREADS="1")
    os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1")
    sys.path = [str(_copy), *(path for path in sys.path if path not in ("", str(ROOT)))]


def run(module: str, source: str, tests: Sequence[str], limit_s: float) -> tuple[str, float]:
    """``killed``, ``survived`` or ``timeout``, and the seconds it took, with ``source`` as the
    text of ``module``.

    Raises ``RuntimeError`` when pytest itself cannot run.
    """
    _preload(tests)
    path = _copy / module
    before = path.read_text(encoding="utf-8")
    path.write_text(source, encoding="utf-8")
    began = time.monotonic()
    try:
        status = _fork(tests, limit_s)
    finally:
        path.write_text(before, encoding="utf-8")
    outcome = "timeout" if status is None else "survived" if status == PASSED else "killed"
    return outcome, time.monotonic() - began


def _preload(tests: Sequence[str]) -> None:
    """Import what these tests import, once: a run is forked from this process and need not load
    torch again. Modules of the project are forgotten, so that a run has the faulty one.
    """
    if tests in _collected:
        return
    _collected.add(tests)
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        pytest.main([*OPTIONS, "--collect-only", *tests])
    for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
        del sys.modules[name]


def output() -> str:
    """What pytest printed in the last run of this process."""
    return (_copy / "pytest.log").read_text(encoding="utf-8", errors="replace")[-3000:]


def _fork(tests: Sequence[str], limit_s: float) -> int | None:
    """The exit status of pytest; None when it took too long. Ends all that it started."""
    child = os.fork()
    if child == 0:
        _test(tests)
    deadline = time.monotonic() + limit_s
    status: int | None = None
    try:
        while time.monotonic() < deadline:
            ended, code = os.waitpid(child, os.WNOHANG)
            if ended:
                status = os.waitstatus_to_exitcode(code)
                return status
            time.sleep(POLL_S)
        return None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        if status is None:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child, 0)


def _test(tests: Sequence[str]) -> None:
    """Never returns."""
    code = FAILED
    try:
        os.setsid()
        log = os.open(_copy / "pytest.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(log, stream)
        code = int(pytest.main([*OPTIONS, f"--basetemp={_copy}-tmp", *tests]))
        sys.stdout.flush()
    finally:
        os._exit(code)
