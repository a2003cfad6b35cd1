"""Stage settings are stored in a file and read back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.errors import InputError
from pipeline.settings import StageSettings


def test_settings_round_trip(tmp_path: Path) -> None:
    saved = StageSettings.model_validate(
        {
            "checkpoint": "/models/wan",
            "threads": 1,
            "vae_engine": "tile",
            "vae_precision": "bf16",
            "vae_config": {"load_encoder": False},
        }
    )
    saved.save(tmp_path)
    assert StageSettings.load(tmp_path) == saved
    stored = json.loads((tmp_path / "stage.json").read_text())
    assert (stored["version"], stored["vae_engine"]) == (2, "tile")


@pytest.mark.parametrize(
    ("resident", "offload"), [("all", "none"), ("expert", "expert"), ("block", "layer")]
)
def test_version_1_of_the_settings_is_read(tmp_path: Path, resident: str, offload: str) -> None:
    """The first release wrote no version, and `resident` instead of `offload`."""
    old = {
        "checkpoint": "/models/wan",
        "precision": "bf16",
        "text_encoder_precisions": ["fp16"],
        "tp_size": 1,
        "threads": 0,
        "resident": resident,
        "pin_cpu_memory": True,
        "batching_max_size": 2,
        "vae_engine": "chunked",
        "vae_precision": "fp32",
        "vae_tiling": False,
        "vae_config": {"load_encoder": False, "load_decoder": True},
        "vae_devices": 1,
        "ulysses_degree": 2,
        "ring_degree": 1,
        "bounds": {},
        "guidance_branches": 2,
    }
    (tmp_path / "stage.json").write_text(json.dumps(old))
    settings = StageSettings.load(tmp_path)
    assert (settings.offload, settings.layout.ranks) == (offload, 4)
    del old["resident"]
    assert settings == StageSettings.model_validate({**old, "offload": offload})


ENGINES = {"checkpoint": "/models/wan", "flavour": "tensorrt"}


def test_a_size_beyond_the_engines_names_the_flag_that_builds_larger_ones() -> None:
    settings = StageSettings.model_validate(ENGINES)
    settings.check_size(1280, 720)
    with pytest.raises(InputError) as caught:
        settings.check_size(1280, 736)
    assert str(caught.value) == (
        "width: 1280x736 has 942,080 pixels; the TensorRT engines of the VAE take at most 921,600 "
        "(--engine-max-pixels 942080 builds larger ones)"
    )
    StageSettings.model_validate(ENGINES | {"engine_max_pixels": 942080}).check_size(1280, 736)


@pytest.mark.parametrize(
    "changed", [{"flavour": "python"}, {"vae_tiling": True}, {"vae_engine": "torch"}]
)
def test_only_engines_of_whole_frames_limit_the_size(changed: dict) -> None:
    StageSettings.model_validate(ENGINES | changed).check_size(1280, 1280)
