"""How pytest-xdist spreads tests: what shares a server stays on one worker, longest first."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

SHARED = {
    **dict.fromkeys(
        (
            f"tests/e2e/test_{name}.py"
            for name in ("ensemble", "export", "faults", "fleet", "serve", "text_ranks")
        ),
        "tests/e2e",
    ),
}
"""Module -> its group. Modules of one group share a server of the session; each other module is
a group.
"""
LONGEST = (
    "tests/security/test_hangs.py",
    "tests/security/test_hangs_elsewhere.py",
    "tests/security/test_checkpoints.py",
    "tests/e2e",
    "tests/export/parity/test_components.py",
    "tests/pipeline/ranks/test_group.py",
    "tests/export/components/test_wan_vae_decoder.py",
    "tests/e2e/clients",
    "tests/e2e/test_image_to_video.py",
)
"""The groups that take longest, which are begun first."""


def group_of(nodeid: str) -> str:
    """The group of a test, all of which runs on one worker."""
    module = nodeid.partition("::")[0]
    if module.startswith("tests/e2e/clients/"):
        return "tests/e2e/clients"
    return SHARED.get(module, module)


def position(item: pytest.Item) -> int:
    """Sorts the tests of the longest groups to the front."""
    group = group_of(item.nodeid)
    return LONGEST.index(group) if group in LONGEST else len(LONGEST)


def scheduler(config: pytest.Config, log: Any) -> Any:
    """A scheduler of pytest-xdist that hands out whole groups in the order of their tests."""
    # By name: the types can be checked where pytest-xdist is not installed.
    base = importlib.import_module("xdist.scheduler.loadscope").LoadScopeScheduling

    class Groups(base):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    config.option.loadscopereorder = False
    return Groups(config, log)
