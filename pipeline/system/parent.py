"""Processes that never outlive their parent: they hold devices and much memory."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import sys
import threading
from pathlib import Path

PR_SET_PDEATHSIG = 1
LOOK_MS = 1000
_LIBC = ctypes.CDLL(None)


def end_with(parent: int) -> None:
    """Have the kernel kill this process when the thread that started it ends.

    Exits when the process ``parent`` has ended already. For children whose parent starts them from
    its main thread, or from a thread that lives as long as they do.
    """
    _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(f"the process {parent}, which started this one, has ended")


def end_with_parent() -> None:
    """Kill this process when its parent ends, even while this process is stopped. Returns at once.

    For the stubs of Triton, which starts them from threads that end.
    """
    threading.Thread(
        target=_watch, args=(os.getppid(),), name="parent-watcher", daemon=True
    ).start()


def _watch(parent: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        ended = select.poll()
        ended.register(os.pidfd_open(parent), select.POLLIN)
        # This thread does not run while the process is stopped. The kernel's own signal comes even
        # then, but also when the thread that started this process ends, as Triton's threads do once
        # a model is loaded. After that the parent's main thread has this process, and it lives as
        # long as the parent.
        while not _is_child_of_main_thread(parent):
            if ended.poll(LOOK_MS):
                break
        else:
            _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            ended.poll()
    os.kill(os.getpid(), signal.SIGKILL)


def _is_child_of_main_thread(parent: int) -> bool:
    """False too where the kernel does not tell."""
    with contextlib.suppress(OSError):
        return (
            str(os.getpid()) in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        )
    return False
