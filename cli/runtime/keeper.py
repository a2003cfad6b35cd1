"""Runs one server and leaves nothing behind, whatever happens to the process that started it.

A separate program, started as ``python -I -S keeper.py FD`` by `cli.runtime.kept_process`. It uses
the standard library only, to start in milliseconds. FD is a socket; its owner has the other end:

  owner -> keeper   one line, a `Launch` in JSON; then any number of lines "again", each of which
                    kills the server and restarts it in the same folder; then the end of the
                    stream, which means stop (and is also what remains of a killed owner)
  keeper -> owner   lines in JSON: {"pid": n} when the server runs, or {"error": text};
                    {"exit": status} when it has ended by itself; then the end of the stream, when
                    nothing is left
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG and PR_SET_CHILD_SUBREAPER of linux/prctl.h
_SET_CHILD_SUBREAPER = 36
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_REMOVAL_S = 15.0
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where POSIX shared memory is, not a temporary file
_TRITON = "tritonserver"
_ENVIRONMENT = re.compile(rb"(/tmp/python_env_\w{6})\0")
_ARENA = 64 << 20  # alignment of the heaps that glibc maps for threads


class Launch:
    """What to run: ``argv`` in ``env`` and ``cwd``, with a new private folder ``work_dir``.

    The folder contains ``links`` (name -> target), empty ``folders``, and ``server.log`` unless
    ``log`` is false: then the server shares the keeper's output. The folder is removed after the
    run, with the shared memory whose name starts with ``shm_prefix``, and with ``container``: the
    engine's program and the container's name. The standard input of a container engine's client
    stays open while the keeper lives.
    """

    def __init__(
        self,
        argv: list[str],
        env: dict[str, str],
        cwd: str,
        work_dir: str,
        links: dict[str, str],
        folders: list[str],
        shm_prefix: str,
        container: tuple[str, str] | None = None,
        log: bool = True,
    ):
        self.argv = argv
        self.env = env
        self.cwd = cwd
        self.work_dir = work_dir
        self.links = links
        self.folders = folders
        self.shm_prefix = shm_prefix
        self.container = container
        self.log = log


def keep(channel: socket.socket) -> None:
    """Run the server until the owner closes the channel, and clean up."""
    # Shared memory, sockets and logs are for this user only.
    os.umask(0o077)
    # A stopped keeper (SIGSTOP) resumes when its owner ends, and cleans up.
    ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGCONT, 0, 0, 0)
    wakeups = _catch_signals()
    launch = Launch(**json.loads(channel.makefile().readline() or sys.exit()))
    server = 0
    try:
        _make_work_dir(launch)
        while True:
            server = _start(launch)
            _report(channel, {"pid": server})
            if not _wait_for_again(channel, wakeups, server):
                break
            _end(launch, server)
    except OSError as error:
        _report(channel, {"error": str(error)})
    finally:
        _end(launch, server)
        remove_files(launch)


def _end(launch: Launch, server: int) -> None:
    folders = temporary_folders(server) if Path(launch.argv[0]).name == _TRITON else []
    end_processes(server)
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()
    remove_container(launch)
    remove_shared_memory(launch)


def _make_work_dir(launch: Launch) -> None:
    """Create the run's folder with its links. Raises OSError."""
    Path(launch.work_dir).mkdir()
    for name, target in launch.links.items():
        path = Path(launch.work_dir, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)


def _start(launch: Launch) -> int:
    """Start the server, which dies with this process, and return its process id.

    From here on the server's orphans become children of this process. Raises OSError.
    """
    for name in launch.folders:
        # Emptied: the sockets of an earlier server could not be bound again.
        shutil.rmtree(Path(launch.work_dir, name), ignore_errors=True)
        Path(launch.work_dir, name).mkdir()
    prctl = ctypes.CDLL(None).prctl
    prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    keeper = os.getpid()

    def die_with_keeper() -> None:
        prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != keeper:
            os._exit(1)

    standard_input = subprocess.DEVNULL
    if launch.container:
        # This process holds the other end: when it ends, the container's standard input ends, and
        # so does the container.
        standard_input, _ = os.pipe()
    log = Path(launch.work_dir, "server.log")
    with log.open("wb") if launch.log else contextlib.nullcontext() as output:
        # preexec_fn is safe here: this process has a single thread.
        server = subprocess.Popen(
            launch.argv,
            env=launch.env,
            cwd=launch.cwd,
            stdin=standard_input,
            stdout=output,
            stderr=output,
            process_group=0,
            preexec_fn=die_with_keeper,
        )
    # So that this object never waits for the process: `_reap` does.
    server.returncode = 0
    return server.pid


def end_processes(server: int) -> None:
    """Kill the group of ``server`` and its orphans, and wait until all of them have ended."""
    # SIGKILL at once: an orderly stop of tritonserver takes 3 s, runs `finalize` only after 1 s,
    # and has nothing to save.
    if server:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server, signal.SIGKILL)
    while True:
        try:
            reaped, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not reaped:
            # As the subreaper this process also inherits those that left the group.
            for child in _children():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            time.sleep(0.002)


def temporary_folders(server: int) -> list[Path]:
    """Return the folders in /tmp of the python backend of a tritonserver; none if it has ended.

    The backend creates one at its start, at a fixed path with a random name, and removes it only at
    an orderly stop. The name is in the server's own heap, so it is never that of another server.
    """
    found: set[bytes] = set()
    with (
        contextlib.suppress(OSError),
        Path(f"/proc/{server}/maps").open(encoding="utf-8", errors="replace") as maps,
        Path(f"/proc/{server}/mem").open("rb", buffering=0) as memory,
    ):
        for line in maps:
            place, access, *_, inode = line.split()[:5]
            begin, end = (int(address, 16) for address in place.split("-"))
            is_heap = line.rstrip().endswith("[heap]") or begin % _ARENA == 0
            if is_heap and access.startswith("rw") and inode == "0":
                with contextlib.suppress(OSError):
                    memory.seek(begin)
                    # The name is from the start of the server, when the heap was small.
                    found.update(_ENVIRONMENT.findall(memory.read(min(end - begin, _ARENA))))
    return [Path(os.fsdecode(path)) for path in sorted(found)]


def remove_container(launch: Launch) -> None:
    """Remove the run's container, if it has one, and wait until it is removed.

    The container would survive the client of its engine. Gives up on an engine that does not
    answer.
    """
    if launch.container is None:
        return
    engine, name = launch.container
    deadline = time.monotonic() + _REMOVAL_S
    # Twice: a client that was killed early may have requested a container that did not exist yet.
    certain = 0
    while certain < 2 and time.monotonic() < deadline:
        gone = False
        for command in ("rm", "--force"), ("inspect", "--format", "{{.Id}}"):
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                ended = subprocess.run(
                    [engine, "container", *command, name],
                    env=launch.env, check=False, timeout=_REMOVAL_S,
                    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                )  # fmt: skip
                gone = ended.returncode != 0
        certain = certain + 1 if gone else 0
        time.sleep(0.2 if certain < 2 else 0)


def remove_shared_memory(launch: Launch) -> None:
    """Remove the run's shared memory, if there is any."""
    for region in _SHARED_MEMORY.glob(f"{launch.shm_prefix}*"):
        region.unlink(missing_ok=True)


def remove_files(launch: Launch) -> None:
    """Remove the run's folder, if there is one."""
    shutil.rmtree(launch.work_dir, ignore_errors=True)


def _catch_signals() -> socket.socket:
    """Return a socket from which the numbers of caught signals can be read, one byte each."""
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.detach(), warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, *_STOP_SIGNALS):
        signal.signal(number, lambda *_: None)
    return reader


def _wait_for_again(channel: socket.socket, wakeups: socket.socket, server: int) -> bool:
    """Wait for the owner's next order: True to restart the server, False to stop."""
    while True:
        ready, _, _ = select.select([channel, wakeups], [], [])
        if channel in ready:
            return bool(channel.recv(64))
        if any(number in _STOP_SIGNALS for number in wakeups.recv(64)):
            return False
        status = _reap(server)
        if status is not None:
            # Stubs notice the server's death only after a second.
            end_processes(server)
            _report(channel, {"exit": os.waitstatus_to_exitcode(status)})


def _reap(server: int) -> int | None:
    """Reap all children that have ended; return the status of ``server`` if it is among them."""
    found = None
    with contextlib.suppress(ChildProcessError):
        while True:
            reaped, status = os.waitpid(-1, os.WNOHANG)
            if not reaped:
                break
            if reaped == server:
                found = status
    return found


def _children() -> list[int]:
    me = str(os.getpid())
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # "pid (name) state parent ...", where the name may contain anything.
            if stat.read_text(errors="replace").rpartition(")")[2].split()[1] == me:
                found.append(int(stat.parent.name))
    return found


def _report(channel: socket.socket, message: dict[str, int | str]) -> None:
    # An owner that has ended is noticed at the end of the stream.
    with contextlib.suppress(OSError):
        channel.sendall(json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as owner:
        # Not inherited by the server: the channel must close when this process ends.
        owner.set_inheritable(False)
        keep(owner)
