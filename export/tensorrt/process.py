"""Run one compilation in a separate process: its memory is freed, and its crash does not end this
process.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable

from export.tensorrt.findings import Findings, Request
from pipeline.system.own_modules import FOLDER, command


def run(request: Request, on_percent: Callable[[int], None], timeout: float) -> Findings:
    """Compile. If the process ends by a signal, an exception or ``timeout`` (seconds), that is a
    finding and no exception.
    """
    started = time.monotonic()
    process = subprocess.Popen(
        command("export.tensorrt.worker", str(os.getpid())),
        cwd=FOLDER,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stderr
    errors: list[str] = []
    # Both pipes are read at once, or a library that prints much would block on the unread one.
    reader = threading.Thread(target=lambda: errors.extend(process.stderr or ()), daemon=True)
    reader.start()
    expired = threading.Event()
    timer = threading.Timer(timeout, lambda: (expired.set(), process.kill()))
    timer.start()
    findings: Findings | None = None
    try:
        _send(process, request)
        for line in process.stdout:
            event = json.loads(line)
            if "percent" in event:
                on_percent(event["percent"])
            else:
                findings = Findings.model_validate(event["findings"])
        process.wait()
    except BaseException:
        process.kill()
        raise
    finally:
        timer.cancel()
        process.wait()
        reader.join()
        process.stdout.close()
        process.stderr.close()
    if findings:
        return findings
    reason = _reason(process.returncode, expired.is_set(), errors)
    return Findings(version="", ok=False, seconds=time.monotonic() - started, findings=(reason,))


def _send(process: subprocess.Popen[str], request: Request) -> None:
    assert process.stdin
    try:
        with process.stdin as stdin:
            stdin.write(request.model_dump_json())
    except BrokenPipeError:
        pass  # it ended at once; its exit code says more


def _reason(code: int, timed_out: bool, errors: list[str]) -> str:
    if timed_out:
        return "the compiler took too long and was stopped"
    if code < 0:
        hint = ", as when memory runs out" if -code == signal.SIGKILL else ""
        return f"the compiler was killed by {signal.Signals(-code).name}{hint}"
    last = next((line.strip() for line in reversed(errors) if line.strip()), "it printed nothing")
    return f"the compiler stopped: {last}"
