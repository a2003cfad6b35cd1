"""Hides the GPUs from tritonserver but not from its stages.

tritonserver makes a CUDA context of 0.3 to 0.5 GB on each GPU that it sees. It needs none where
all of its models run on the CPU or in Python.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping

VISIBLE = "CUDA_VISIBLE_DEVICES"
FOR_STAGES = "TRITON_VIDEO_STAGE_DEVICES"
_ALL = "all"


def hide(environment: Mapping[str, str]) -> dict[str, str]:
    """Return a copy of ``environment`` without GPUs, from which a stage can restore them."""
    return {**environment, VISIBLE: "", FOR_STAGES: environment.get(VISIBLE, _ALL)}


def restore(environment: MutableMapping[str, str]) -> None:
    """In a stage, before CUDA starts: make the GPUs visible that ``hide`` hid."""
    devices = environment.pop(FOR_STAGES, None)
    if devices == _ALL:
        environment.pop(VISIBLE, None)
    elif devices is not None:
        environment[VISIBLE] = devices
