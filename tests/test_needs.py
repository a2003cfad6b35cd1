"""A test that needs something slow has the mark that says so."""

from __future__ import annotations

import subprocess
import sys

import pytest

from cli.runtime.keeper import Launch
from cli.runtime.kept_process import KeptProcess
from tests.conftest import GUARD, ROOT
from tests.needs import PROGRAMS


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_cannot_be_started_without_its_mark(program: str) -> None:
    command = [f"/nowhere/{program}"] if program == "tritonserver" else ["/nowhere/python", program]
    with pytest.raises(RuntimeError, match=f"starts {program}: mark it with"):
        subprocess.Popen(command)


def test_a_server_cannot_be_started_without_its_mark() -> None:
    launch = Launch(["/nowhere/tritonserver"], {}, "/", "/nowhere", {}, [], "none")
    with pytest.raises(RuntimeError, match="starts tritonserver: mark it with server"):
        KeptProcess(launch)


def test_other_programs_need_no_mark() -> None:
    subprocess.run([sys.executable, "-c", "", "tritonserver.log"], check=True)


@pytest.fixture
def marked(request: pytest.FixtureRequest) -> None:
    request.node.add_marker("server")
    return


@pytest.mark.usefixtures("marked")
def test_a_marked_test_may_start_its_program() -> None:
    GUARD.require([str(ROOT / "tritonserver")])
