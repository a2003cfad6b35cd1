"""The process that exports one part. It prints what it is doing and ends with the process that
started it.
"""

from __future__ import annotations

import os
import re
import resource
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from export.options import ExportOptions
from pipeline.system.starting import Start, Turn, start_module

MODULE = "export.part_process"
PARITY_MODULE = "export.reparity"
_OWN_NAME = re.compile(r"^(pipeline\.errors|export)\.[\w.]+: ")


class Child:
    """``python -m export.part_process PART CHECKPOINT OUTPUT OPTIONS PARENT``, as its parent sees
    it.

    ``module`` is another module with the same arguments; ``start`` starts it, in its ``turn``.
    """

    def __init__(
        self,
        part: str,
        checkpoint: Path,
        output: Path,
        options: ExportOptions,
        module: str | None = None,
        *,
        start: Start = start_module,
        turn: Turn = "later",
    ):
        # A file, because it is read only at the end, and a full pipe would block the child.
        self._errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        reader, writer = os.pipe()
        self.output = os.fdopen(reader, "rb", buffering=0)
        """Readable when there are `lines`, or when the process has ended."""
        try:
            self._process = start(
                module or MODULE, part, str(checkpoint), str(output), options.model_dump_json(),
                stdout=writer, stderr=self._errors.fileno(), turn=turn,
            )  # fmt: skip
        finally:
            os.close(writer)
        self.at_end = False
        os.set_blocking(self.output.fileno(), False)
        self._begun = b""

    def lines(self) -> Iterator[str]:
        """Return the lines it printed since the last call."""
        block = os.read(self.output.fileno(), 65536)
        self.at_end = not block
        *whole, self._begun = (self._begun + block).split(b"\n")
        yield from (line.decode(errors="replace") for line in whole)

    def wait(self) -> tuple[int, str]:
        """Wait for its end; return its exit code and what it wrote to standard error."""
        code = self._process.wait()
        self.output.close()
        with self._errors as errors:
            errors.seek(0)
            return code, errors.read()

    def run(self, on_line: Callable[[str], None]) -> str | None:
        """Pass its lines on until it ends; return the reason if it failed. It is killed if this is
        interrupted.
        """
        os.set_blocking(self.output.fileno(), True)
        try:
            while not self.at_end:
                for line in self.lines():
                    on_line(line)
        except BaseException:
            self.kill()
            raise
        return reason(*self.wait())

    def kill(self) -> None:
        self._process.kill()
        self.wait()


def reason(code: int, errors: str) -> str | None:
    """Return why a child failed, as one line without the name of one of our exceptions, or None if
    it succeeded.
    """
    if not code:
        return None
    return _OWN_NAME.sub("", errors.strip().rpartition("\n")[2]) or f"exit code {code}"


def speaking_channel() -> Callable[[str], None]:
    """In the child: return a function that sends a line to the parent. What libraries print goes to
    standard error.
    """
    channel = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def say(line: str) -> None:
        channel.write(" ".join(line.split()) + "\n")
        channel.flush()

    return say


def bound_time(seconds: float) -> None:
    """In the child: have SIGALRM end it after ``seconds`` seconds."""
    signal.setitimer(signal.ITIMER_REAL, seconds)


def bound_memory(size: int) -> None:
    """In the child: limit its memory beside mapped files to ``size`` bytes, without a core file."""
    for what, limit in ((resource.RLIMIT_DATA, size), (resource.RLIMIT_CORE, 0)):
        _, highest = resource.getrlimit(what)
        limit = limit if highest == resource.RLIM_INFINITY else min(limit, highest)
        resource.setrlimit(what, (limit, limit))
