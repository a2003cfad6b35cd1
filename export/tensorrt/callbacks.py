"""The callbacks of TensorRT. Their classes are made from the library that is passed, of which there
are two.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from export.tensorrt.findings import of_log

_ACTIVATIONS = re.compile(r"Total Activation Memory: (\d+) bytes")


class Log:
    """The messages of one compilation: ``errors`` and ``warnings`` cleaned, in order, without
    repetitions.
    """

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.warnings: list[str] = []
        self.activation_bytes: int | None = None

    def add(self, severity: str, message: str) -> None:
        """``severity`` is the name of an ``ILogger.Severity``."""
        if found := _ACTIVATIONS.search(message):
            self.activation_bytes = int(found[1])
        kept = {"WARNING": self.warnings, "ERROR": self.errors, "INTERNAL_ERROR": self.errors}.get(
            severity
        )
        cleaned = of_log(message) if kept is not None else None
        if kept is not None and cleaned and cleaned not in kept:
            kept.append(cleaned)


def logger(trt: Any, log: Log) -> Any:
    """Return an ``ILogger`` that fills ``log``. It must live as long as what it was passed to."""

    class Logger(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            log.add(severity.name, message)

    return Logger()


class Phases:
    """The progress of a compilation, from nested phases: a phase of n steps runs inside a step of
    its parent.
    """

    def __init__(self, on_percent: Callable[[int], None]) -> None:
        self._on_percent = on_percent
        self._steps: dict[str, int] = {}
        self._done: dict[str, int] = {}
        self._parents: dict[str, str | None] = {}
        self._percent = 0

    def start(self, name: str, parent: str | None, steps: int) -> None:
        self._parents[name], self._steps[name], self._done[name] = parent, max(steps, 1), 0

    def step(self, name: str, step: int) -> None:
        """Record that ``step``, counted from 0, is done, and report a percentage that has grown."""
        self._done[name] = step + 1
        share = 0.0
        current: str | None = name
        while current in self._steps:
            share = min((self._done[current] + share) / self._steps[current], 1.0)
            current = self._parents[current]
        if (percent := int(100 * share)) > self._percent:
            self._percent = percent
            self._on_percent(percent)

    def finish(self, name: str) -> None:
        for table in (self._parents, self._steps, self._done):
            table.pop(name, None)


def monitor(trt: Any, phases: Phases) -> Any:
    """Return an ``IProgressMonitor`` that moves ``phases``. It must live as long as the builder's
    config.
    """

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            phases.start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            phases.step(phase_name, step)
            return True  # False would cancel the build

        def phase_finish(self, phase_name: str) -> None:
            phases.finish(phase_name)

    return Monitor()
