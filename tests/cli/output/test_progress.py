"""Progress on a terminal and elsewhere."""

from __future__ import annotations

import io

import pytest

from cli.output import progress
from cli.output.stopwatch import Stopwatch


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_view_suits_the_stream(monkeypatch):
    assert isinstance(progress.choose_view(quiet=True), progress.Silent)
    monkeypatch.setattr("sys.stderr", io.StringIO())
    assert type(progress.choose_view(quiet=False)) is progress.Lines
    monkeypatch.setattr("sys.stderr", Terminal())
    assert isinstance(progress.choose_view(quiet=False), progress.Bars)


def test_lines_show_a_few_steps(capsys):
    view = progress.Lines()
    for step in range(21):
        view.step("denoise", step, 20)
    view.message("start", "loading dit")
    view.message("start", "loading dit")
    lines = [line.removeprefix("triton-video: ") for line in capsys.readouterr().err.splitlines()]
    assert lines == [
        *(f"denoise {step}/20" for step in (5, 10, 15, 20)),
        "starting Triton: loading dit",
    ]


@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_bars_name_the_stages_and_leave_the_cursor(monkeypatch, error):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    try:
        with progress.Bars() as view:
            view.note("using [the] checkpoint")
            view.message("start", "loading [dit]")
            view.step("denoise", 3, 20)
            if error:
                raise error
    except KeyboardInterrupt:
        pass
    text = terminal.getvalue()
    assert all(
        part in text
        for part in (
            "using [the] checkpoint",
            "starting Triton",
            "loading [dit]",
            "denoise",
            "3/20",
        )
    )
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")


def test_a_stage_lasts_until_the_next():
    times = iter([0.0, 0.0, 2.0, 5.0, 6.0, 6.0])
    watch = Stopwatch(lambda: next(times))
    for stage in ("prepare", "denoise", "decode"):
        watch.enter(stage)
    assert watch.seconds() == {
        "prepare": 2.0,
        "start": 0.0,
        "denoise": 3.0,
        "decode": 1.0,
        "total": 6.0,
    }
