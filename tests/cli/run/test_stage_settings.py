"""What the command line tells the stages, and what it refuses before a server is started for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.params.stage_group import StageGroup
from cli.run.stage_settings import stage_settings
from pipeline.checkpoint.folder import Checkpoint
from pipeline.errors import InputError
from tests.conftest import SHAPES


def told(**values: Any) -> dict[str, Any]:
    return stage_settings(Checkpoint.open(SHAPES), StageGroup.model_validate(values)).model_dump()


def test_how_the_vae_decodes_reaches_the_stages() -> None:
    sizes = {"tile_sample_min_height": 64, "tile_sample_stride_height": 32}
    asked = {
        "vae_engine": "torch",
        "vae_precision": "bf16",
        "vae_tiling": True,
        "vae_config": sizes,
    }

    settings = told(**asked)

    assert {name: settings[name] for name in ("vae_engine", "vae_precision", "vae_tiling")} == {
        name: asked[name] for name in ("vae_engine", "vae_precision", "vae_tiling")
    }
    assert settings["vae_config"].items() >= sizes.items()


def test_by_default_it_decodes_in_chunks_of_the_whole_frame() -> None:
    settings = told()
    assert (settings["vae_engine"], settings["vae_precision"], settings["vae_tiling"]) == (
        "chunked",
        "fp32",
        False,
    )


def test_ranks_are_worked_out_from_what_is_given() -> None:
    settings = told(num_gpus=8, sp_size=4, ring_degree=2)
    assert (settings["ulysses_degree"], settings["ring_degree"], settings["guidance_branches"]) == (
        2,
        2,
        2,
    )


def test_a_text_encoder_on_ranks_may_be_in_bf16() -> None:
    settings = told(tp_size=2, text_encoder_precisions=["bf16"])
    assert (settings["tp_size"], settings["text_encoder_precisions"]) == (2, ("bf16",))


def test_tiles_are_decoded_on_the_devices_of_all_ranks() -> None:
    settings = told(num_gpus=4, vae_sp=True)
    assert (settings["vae_devices"], settings["vae_tiling"]) == (4, True)
    assert told(num_gpus=4)["vae_devices"] == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_gpus": 2, "ulysses_degree": 4}, "ulysses_degree: 4 is more than num_gpus 2"),
        ({"tp_size": 3}, "tp_size: 3 does not divide the text encoder's num_heads 4; 1, 2 or 4 do"),
        (
            {"tp_size": 2, "text_encoder_cpu_offload": True},
            "tp_size: should be 1 with text_encoder_cpu_offload",
        ),
        (
            {"tp_size": 2, "text_encoder_precisions": ["fp16"]},
            "text_encoder_precisions: should be fp32 or bf16",
        ),
        ({"vae_precision": "bf16"}, "vae_precision: bf16 needs --vae-engine torch"),
        (
            {"text_encoder_precisions": ["fp16", "bf16"]},
            "text_encoder_precisions: should be fp32 or fp16",
        ),
        (
            {"vae_tiling": True, "vae_config": {"tile_sample_min_width": 100}},
            "vae_config.tile_sample_min_width: 100 should be a multiple of 8",
        ),
        (
            {"vae_tiling": True, "vae_config": {"tile_sample_stride_height": 512}},
            "vae_config.tile_sample_stride_height: 512 leaves gaps between tiles of 256",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_its_name(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        told(**values)
    assert str(caught.value).startswith(message)


def test_a_model_of_one_pass_a_step_has_no_branches_to_spread(
    build_family: Callable[[str], Path],
) -> None:
    checkpoint = Checkpoint.open(build_family("hunyuan-video"))
    with pytest.raises(
        InputError, match=r"^cfg_parallel: not available: hunyuan-video has one pass per step"
    ):
        stage_settings(checkpoint, StageGroup(num_gpus=2, sp_size=1))
