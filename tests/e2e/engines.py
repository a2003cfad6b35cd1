"""The settings of stages whose encoders and VAE run as exported graphs, or in torch."""

from __future__ import annotations

from pathlib import Path

from pipeline.settings import StageSettings


def settings_for(checkpoint: Path, engine: str) -> StageSettings:
    """Return settings with one thread per stage; ``engine`` is "graph" or "torch"."""
    engines = {
        "encoder_engine": engine,
        "vae_engine": "torch" if engine == "torch" else "chunked",
    }
    return StageSettings.model_validate({"checkpoint": str(checkpoint), "threads": 1, **engines})
