"""Progress from phases that nest, and a log that keeps what matters."""

from __future__ import annotations

from export.tensorrt.callbacks import Log, Phases


def test_a_phase_counts_inside_the_step_of_its_parent() -> None:
    seen: list[int] = []
    phases = Phases(seen.append)
    phases.start("build", None, 2)
    phases.start("fuse", "build", 4)
    phases.step("fuse", 0)
    phases.step("fuse", 1)
    phases.start("tactics", "fuse", 2)
    phases.step("tactics", 0)
    phases.finish("tactics")
    phases.finish("fuse")
    phases.step("build", 0)
    phases.step("build", 1)
    assert seen == [12, 25, 31, 50, 100]


def test_progress_never_decreases_and_ignores_a_stray_phase() -> None:
    seen: list[int] = []
    phases = Phases(seen.append)
    phases.start("build", None, 2)
    phases.step("build", 0)
    phases.start("again", "build", 10)
    phases.finish("again")
    phases.start("alone", "unheard of", 0)
    phases.step("alone", 0)
    assert seen == [50, 100]


def test_the_log_keeps_each_error_once_and_reads_the_memory() -> None:
    log = Log()
    for _ in range(2):
        log.add("ERROR", "no kernel")
        log.add("WARNING", "slow")
    log.add("INTERNAL_ERROR", "broken")
    log.add("VERBOSE", "chatter")
    log.add("INFO", "Total Activation Memory: 5400166400 bytes")
    assert (log.errors, log.warnings, log.activation_bytes) == (
        ["no kernel", "broken"],
        ["slow"],
        5400166400,
    )
