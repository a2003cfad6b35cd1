"""Stages see the GPUs that are hidden from their server."""

from __future__ import annotations

import pytest

from pipeline.system.hidden_devices import hide, restore


@pytest.mark.parametrize("own", [{}, {"CUDA_VISIBLE_DEVICES": ""}, {"CUDA_VISIBLE_DEVICES": "1,0"}])
def test_restore_undoes_hide(own: dict[str, str]) -> None:
    environment = hide({"PATH": "/bin", **own})
    assert environment["CUDA_VISIBLE_DEVICES"] == ""
    restore(environment)
    assert environment == {"PATH": "/bin", **own}


def test_restore_leaves_an_environment_that_was_not_hidden() -> None:
    environment = {"CUDA_VISIBLE_DEVICES": "2"}
    restore(environment)
    assert environment == {"CUDA_VISIBLE_DEVICES": "2"}
