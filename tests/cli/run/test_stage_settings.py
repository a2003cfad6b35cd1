"""The settings that reach the stages, and those that are refused before a server starts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.params.stage_group import StageGroup
from cli.run.devices import Hardware
from cli.run.stage_settings import stage_settings
from pipeline.checkpoint.folder import Checkpoint
from pipeline.errors import InputError
from pipeline.settings import StageSettings
from tests.conftest import SHAPES

CPU = Hardware(gpu=False)


def settings_for(**values: Any) -> dict[str, Any]:
    stages = StageGroup.model_validate(values)
    return stage_settings(Checkpoint.open(SHAPES), stages, CPU).model_dump()


def test_vae_options_reach_the_stages() -> None:
    sizes = {"tile_sample_min_height": 64, "tile_sample_stride_height": 32}
    asked = {
        "vae_engine": "torch",
        "vae_precision": "bf16",
        "vae_tiling": True,
        "vae_config": sizes,
    }

    settings = settings_for(**asked)

    assert {name: settings[name] for name in ("vae_engine", "vae_precision", "vae_tiling")} == {
        name: asked[name] for name in ("vae_engine", "vae_precision", "vae_tiling")
    }
    assert settings["vae_config"].items() >= sizes.items()


def test_vae_decodes_whole_frames_in_chunks_by_default() -> None:
    settings = settings_for()
    assert (settings["vae_engine"], settings["vae_precision"], settings["vae_tiling"]) == (
        "chunked",
        "fp32",
        False,
    )


def test_ranks_follow_from_the_options() -> None:
    settings = settings_for(num_gpus=8, sp_size=4, ring_degree=2)
    assert (settings["ulysses_degree"], settings["ring_degree"], settings["guidance_branches"]) == (
        2,
        2,
        2,
    )


def test_text_encoder_on_ranks_may_use_bf16() -> None:
    settings = settings_for(tp_size=2, text_encoder_precisions=["bf16"])
    assert (settings["tp_size"], settings["text_encoder_precisions"]) == (2, ("bf16",))


def test_tiles_are_decoded_on_the_devices_of_all_ranks() -> None:
    settings = settings_for(num_gpus=4, vae_sp=True)
    assert (settings["vae_devices"], settings["vae_tiling"]) == (4, True)
    assert settings_for(num_gpus=4)["vae_devices"] == 1


def test_hunyuan_video_decodes_tiles_unless_they_are_off(
    build_family: Callable[[str], Path],
) -> None:
    checkpoint = Checkpoint.open(build_family("hunyuan-video"))
    resolved = [
        stage_settings(checkpoint, StageGroup(vae_tiling=asked), CPU).vae_tiling
        for asked in (None, True, False)
    ]
    assert resolved == [True, True, False]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"vae_sp": True, "vae_tiling": False},
            "vae_tiling: must be on with vae_sp, which decodes tiles in parallel",
        ),
        ({"num_gpus": 2, "ulysses_degree": 4}, "ulysses_degree: 4 is more than num_gpus 2"),
        ({"tp_size": 3}, "tp_size: 3 does not divide the text encoder's num_heads 4; 1, 2 or 4 do"),
        (
            {"tp_size": 2, "text_encoder_cpu_offload": True},
            "tp_size: should be 1 with text_encoder_cpu_offload",
        ),
        (
            {"vae_precision": "bf16", "vae_engine": "chunked"},
            "vae_precision: bf16 needs --vae-engine torch",
        ),
        (
            {"text_encoder_precisions": ["bf16"], "encoder_engine": "graph"},
            "text_encoder_precisions: bf16 needs --encoder-engine torch",
        ),
        ({"tp_size": 2, "encoder_engine": "graph"}, "tp_size: needs --encoder-engine torch"),
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
def test_unsupported_options_are_refused_by_name(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        settings_for(**values)
    assert str(caught.value).startswith(message)


def test_one_pass_model_refuses_cfg_parallel(
    build_family: Callable[[str], Path],
) -> None:
    checkpoint = Checkpoint.open(build_family("hunyuan-video"))
    with pytest.raises(
        InputError, match=r"^cfg_parallel: not available: hunyuan-video has one pass per step"
    ):
        stage_settings(checkpoint, StageGroup(num_gpus=2, sp_size=1), CPU)


def test_the_engine_of_hunyuan_video_takes_the_default_tiles(
    build_family: Callable[[str], Path],
) -> None:
    checkpoint = Checkpoint.open(build_family("hunyuan-video"))

    def settings(**values: Any) -> StageSettings:
        return stage_settings(checkpoint, StageGroup.model_validate(values), CPU)

    engines = settings(flavour="tensorrt")
    assert (engines.vae_tiling, engines.text_encoder_precisions) == (True, ("bf16", "bf16"))
    with pytest.raises(
        InputError, match=r"^vae_tiling: must be on: the TensorRT engine of hunyuan"
    ):
        settings(flavour="tensorrt", vae_tiling=False)
    larger = {"tile_sample_min_width": 512}
    with pytest.raises(InputError, match=r"^vae_config: tile_sample_min_width 512 .* at most 256$"):
        settings(flavour="tensorrt", vae_config=larger)
    assert settings(vae_config=larger).flavour == "python"


def test_auto_is_the_flavour_python() -> None:
    assert settings_for()["flavour"] == "python"


def test_engines_of_text_encoders_are_bf16_by_default() -> None:
    assert settings_for(flavour="tensorrt")["text_encoder_precisions"] == ("bf16",)
    chosen = settings_for(flavour="tensorrt", text_encoder_precisions=["fp32"])
    assert chosen["text_encoder_precisions"] == ("fp32",)
    assert settings_for(flavour="onnxruntime")["text_encoder_precisions"] == ()


def test_engines_of_the_vae_may_be_bf16() -> None:
    assert settings_for(flavour="tensorrt", vae_precision="bf16")["vae_precision"] == "bf16"


def test_step_cache_needs_a_table(build_family: Callable[[str], Path]) -> None:
    checkpoint = Checkpoint.open(build_family("wan2.1-t2v"))
    stages = StageGroup(step_cache="1.5x")
    with pytest.raises(
        InputError, match=r"no table: triton-video calibrate --model-path /.* makes"
    ):
        stage_settings(checkpoint, stages, CPU)
    assert not stage_settings(checkpoint, StageGroup(), CPU).step_cache_table


def test_step_cache_takes_the_table_of_a_file(
    build_family: Callable[[str], Path], tmp_path: Path
) -> None:
    file, checkpoint = tmp_path / "mine.json", Checkpoint.open(build_family("wan2.1-t2v"))
    stages = StageGroup(step_cache=f"table={file},threshold=0.1")
    with pytest.raises(InputError, match=r"step_cache: /.*mine\.json is missing"):
        stage_settings(checkpoint, stages, CPU)
    file.write_text('{"ratios": [[[1.0, 0.99]]]}')
    table = stage_settings(checkpoint, stages, CPU).step_cache_table
    assert table is not None
    assert table.ratios == (((1.0, 0.99),),)
