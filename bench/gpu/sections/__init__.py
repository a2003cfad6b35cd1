"""The sections of the acceptance run, one module each, with a function ``run``.

They import torch and the project's packages inside ``run``: the list of sections is needed where
neither is installed.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Section:
    """A module of this package and the seconds it takes on an H100."""

    name: str
    seconds: float
    starts_triton: bool = False


# Correctness first, then what decides the defaults, then the rest.
SECTIONS = (
    Section("env", 20),
    Section("ceilings", 20),
    Section("attention", 30),
    Section("usp", 60),
    Section("gpu_tests", 40),
    Section("dit", 90),
    Section("vae", 45),
    Section("compiled", 70),
    Section("large", 60),
    Section("text", 30),
    Section("offload", 90),
    Section("triton", 200, starts_triton=True),
)
