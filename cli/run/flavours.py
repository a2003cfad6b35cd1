"""Whether the Triton of this machine can run a flavour, and its engines what is asked of them.

Imports in functions are of packages that the flavour python does not need.
"""

from __future__ import annotations

from typing import get_args

from pipeline.errors import InputError
from pipeline.families import Family
from pipeline.settings import Flavour, StageSettings, VaeConfig


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


def require_engine_tiles(family: Family, settings: StageSettings) -> None:
    """Raise ``InputError`` if the engine of a VAE that decodes in tiles is to decode larger ones
    than it takes, which are the default tiles.
    """
    if settings.flavour != "tensorrt" or not family.vae_tiling:
        return
    if not settings.vae_tiling:
        raise InputError(
            "vae_tiling",
            f"must be on: the TensorRT engine of {family.name} takes tiles; "
            "the flavour python decodes whole frames",
        )
    largest = VaeConfig()
    for field in ("height", "width", "num_frames"):
        name = f"tile_sample_min_{field}"
        if (asked := getattr(settings.vae_config, name)) > (most := getattr(largest, name)):
            raise InputError(
                "vae_config",
                f"{name} {asked} is too large for the TensorRT engine of {family.name}; "
                f"at most {most}",
            )
