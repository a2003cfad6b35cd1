"""The table of `make mutants` names modules and tests that exist."""

from __future__ import annotations

from pathlib import Path

from scripts.mutants.targets import TARGETS

ROOT = Path(__file__).resolve().parents[2]


def test_modules_and_tests_of_the_table_exist() -> None:
    named = {*TARGETS, *(test for tests in TARGETS.values() for test in tests)}
    assert sorted(name for name in named if not (ROOT / name).exists()) == []
