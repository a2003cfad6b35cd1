"""End a process together with its parent, so that it frees its devices and memory."""

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

    Exits when the process ``parent`` has already ended. Use it in children that are started from
    their parent's main thread, or from a thread that lives as long as they do.
    """
    _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(f"the process {parent}, which started this one, has ended")


def end_with_parent() -> None:
    """Kill this process when its parent ends, even while this process is stopped. Returns at once.

    Use it in Triton's stubs, which Triton starts from threads that end.
    """
    threading.Thread(
        target=_watch, args=(os.getppid(),), name="parent-watcher", daemon=True
    ).start()


def _watch(parent: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        ended = select.poll()
        ended.register(os.pidfd_open(parent), select.POLLIN)
        # This thread does not run while the process is stopped. The kernel's signal arrives even
        # then, but also when the thread that started this process ends, as Triton's threads do once
        # a model is loaded. After that, this process is a child of the parent's main thread, which
        # lives as long as the parent.
        while not _is_child_of_main_thread(parent):
            if ended.poll(LOOK_MS):
                break
        else:
            _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            ended.poll()
    os.kill(os.getpid(), signal.SIGKILL)


def _is_child_of_main_thread(parent: int) -> bool:
    """Return whether this process is a child of the main thread of ``parent``.

    Returns False too when the kernel does not list a thread's children.
    """
    with contextlib.suppress(OSError):
        return (
            str(os.getpid()) in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        )
    return False
