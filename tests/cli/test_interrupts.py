"""Signals as exceptions."""

from __future__ import annotations

import os
import signal

import pytest

from cli.interrupts import Interrupted, interruptible


def interrupted_twice() -> None:
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        os.kill(os.getpid(), signal.SIGHUP)  # as if it came in the midst of the clean-up


def interrupted_in_a_library() -> None:
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except Interrupted:
        raise ValueError("no schema") from None


@pytest.mark.parametrize("block", [interrupted_twice, interrupted_in_a_library])
def test_the_first_signal_interrupts_whatever_follows(block) -> None:
    with pytest.raises(Interrupted) as caught, interruptible():
        block()
    assert caught.value.exit_code == 128 + signal.SIGTERM


def test_an_error_without_a_signal_stays_and_the_handlers_come_back() -> None:
    former = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ValueError, match="a fault"), interruptible():
        raise ValueError("a fault")
    assert signal.getsignal(signal.SIGTERM) is former
