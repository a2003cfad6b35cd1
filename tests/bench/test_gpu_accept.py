"""The acceptance run for a GPU, on a CPU at toy sizes: so that it works when a GPU is lent."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from bench.gpu import sections
from bench.gpu.accept import main
from bench.gpu.results import Result, results_in, table
from bench.gpu.sections import SECTIONS

# `gpu_tests` runs pytest, `triton` is what tests/e2e does, and torch compiles with g++.
LEFT_OUT = {"gpu_tests", "triton", *([] if shutil.which("g++") else ["compiled"])}
TINY = [each.name for each in SECTIONS if each.name not in LEFT_OUT]


def test_each_module_is_a_section_in_the_list() -> None:
    modules = {file.stem for file in Path(sections.__path__[0]).glob("*.py")}
    assert modules - {"__init__"} == {each.name for each in SECTIONS}


def test_results_are_read_back_among_other_lines() -> None:
    log = 'a warning\nRESULT {"name": "a step", "value": 0.25, "unit": "s", "note": "81f"}\n'
    assert results_in(log) == [Result("a step", 0.25, "s", "81f")]
    rows = table([*results_in(log), Result("[dit]", "done")]).splitlines()[2:]
    assert rows == ["a step  0.25   s     81f", "[dit]   done"]


@pytest.mark.slow
def test_a_section_that_fails_does_not_end_the_run(tmp_path: Path) -> None:
    """The folder of the checkpoint is a file here."""
    (tmp_path / "wan").touch()
    options = ["--tiny", "--work", str(tmp_path), "--out", str(tmp_path / "out")]
    assert main([*options, "--only", "vae,ceilings"]) == 1
    rows = {row["name"]: row for row in json.loads((tmp_path / "out/results.json").read_text())}
    assert rows["[vae]"]["value"] == "ended with 1"
    assert "NotADirectoryError" in rows["[vae]"]["note"]
    assert rows["[ceilings]"]["value"] == "done"
    assert rows["bf16 matmul"]["value"] > 0


def test_no_section_starts_without_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--tiny", "--budget", "1", "--only", "dit", "--out", str(tmp_path)]) == 1
    assert "left out" in capsys.readouterr().out


def test_unknown_sections_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--only", "dit,vea"])
    assert "vea: no such section; the sections are env, ceilings" in capsys.readouterr().err


@pytest.mark.exhaustive
@pytest.mark.ranks
@pytest.mark.timeout(900)
def test_every_section_runs_and_finds_nothing_wrong(tmp_path: Path) -> None:
    options = ["--tiny", "--work", str(tmp_path), "--out", str(tmp_path / "out")]
    assert main([*options, "--only", ",".join(TINY), "--budget", "800"]) == 0
    rows = json.loads((tmp_path / "out/results.json").read_text())
    verdicts = ("WRONG", "FAILED", "LOOK")
    wrong = [row for row in rows if str(row["value"]) in verdicts or row["note"] in verdicts]
    assert wrong == []
    assert {"latents beside plain diffusers, bf16", "offload layer, pinned True: a step"} <= {
        row["name"] for row in rows
    }
