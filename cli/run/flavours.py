"""Whether the Triton of this machine can run a flavour.

Imports in functions are of packages that the flavour python does not need.
"""

from __future__ import annotations

from typing import get_args

from pipeline.errors import InputError
from pipeline.settings import Flavour


def require_flavour(flavour: Flavour) -> None:
    """Raise ``InputError`` with what this machine can do if it cannot run ``flavour``, and
    ``ServerError`` if it has no Triton.
    """
    if flavour == "python":
        return
    from cli.runtime.distribution import find_distribution

    if flavour == "tensorrt":
        from export.tensorrt import require_builder

        require_builder()
    backends = {"python", *(path.name for path in find_distribution().more_backends)}
    if flavour not in backends:
        possible = " or ".join(name for name in get_args(Flavour) if name in backends)
        raise InputError(
            "flavour",
            f"{flavour} needs a backend that the Triton of this machine does not have; "
            f"choose {possible}, or run the image gpu",
        )
