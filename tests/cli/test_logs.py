"""The log of the lasting commands."""

from __future__ import annotations

import json
import logging

import pytest

from cli.logs import set_up_logging

logger = logging.getLogger("proxy.somewhere")


def test_lines_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("text", quiet=False, verbose=False)
    logger.info("a job was %s", "stopped")
    logger.debug("unseen")
    logging.getLogger("sqlalchemy").info("unseen")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("INFO proxy.somewhere: a job was stopped")


def test_lines_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("json", quiet=False, verbose=True)
    logger.debug("a job was %s", "stopped")
    try:
        raise ValueError("why")
    except ValueError:
        logger.exception("a fault")
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert (first["level"], first["logger"], first["message"]) == ("debug", "proxy.somewhere", "a job was stopped")
    assert first["time"].endswith("+00:00")
    assert second["traceback"].endswith("ValueError: why")


def test_quiet_is_warnings_only(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("text", quiet=True, verbose=False)
    logger.info("unseen")
    logger.warning("seen")
    assert capsys.readouterr().err.count("\n") == 1
