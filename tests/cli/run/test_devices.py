"""What ``auto`` resolves to on each hardware, and that an option that is set always wins."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from cli.params.stage_group import StageGroup
from cli.run.devices import Engines, Hardware, engines_of, lighter
from pipeline.families import family_named
from pipeline.settings import StageSettings

GPU, CPU, NEW_CPU = Hardware(gpu=True), Hardware(gpu=False), Hardware(gpu=False, cpu_bf16=True)


def resolved(hardware: Hardware, family: str = "wan2.1-t2v", **values: Any) -> Engines:
    return engines_of(StageGroup.model_validate(values), family_named(family), hardware)


def test_gpu_runs_every_part_in_torch_and_half_precision() -> None:
    assert resolved(GPU) == Engines("bf16", "torch", ("bf16",), "torch", "bf16")
    assert resolved(GPU, "hunyuan-video") == Engines(
        "bf16", "torch", ("bf16", "bf16"), "torch", "fp16"
    )


def test_cpu_runs_exported_graphs_in_fp32() -> None:
    assert resolved(CPU) == Engines("fp32", "graph", (), "chunked", "fp32")


def test_cpu_with_bf16_instructions_runs_the_transformer_in_bf16() -> None:
    assert resolved(NEW_CPU) == Engines("bf16", "graph", (), "chunked", "fp32")


@pytest.mark.parametrize("hardware", [GPU, CPU, NEW_CPU])
def test_option_that_is_set_wins(hardware: Hardware) -> None:
    asked = {
        "precision": "fp32",
        "encoder_engine": "graph",
        "text_encoder_precisions": ["fp16"],
        "vae_engine": "tile",
        "vae_precision": "fp16",
    }
    assert resolved(hardware, **asked) == Engines("fp32", "graph", ("fp16",), "tile", "fp16")


@pytest.mark.parametrize(
    ("asked", "encoders", "vae"),
    [
        ({"tp_size": 2}, "torch", "chunked"),
        ({"text_encoder_precisions": ["bf16"]}, "torch", "chunked"),
        ({"vae_precision": "bf16"}, "graph", "torch"),
    ],
)
def test_option_that_graphs_on_a_cpu_do_not_have_selects_torch(
    asked: dict[str, Any], encoders: str, vae: str
) -> None:
    found = resolved(CPU, **asked)
    assert (found.encoder_engine, found.vae_engine) == (encoders, vae)


def test_torch_takes_the_place_of_graphs_that_were_never_exported() -> None:
    def without(**values: Any) -> Engines:
        stages = StageGroup.model_validate(values)
        return engines_of(stages, family_named("wan2.1-t2v"), CPU, has_graphs=False)

    assert without() == Engines("fp32", "torch", (), "torch", "fp32")
    slow = without(text_encoder_precisions=["fp16"], vae_precision="fp16")
    assert (slow.encoder_engine, slow.vae_engine) == ("graph", "chunked")
    asked = without(encoder_engine="graph", vae_engine="tile")
    assert (asked.encoder_engine, asked.vae_engine) == ("graph", "tile")


def test_lighter_settings_keep_what_an_option_asks_for() -> None:
    def lighter_engines(**values: Any) -> list[tuple[str, str, bool]]:
        stages = StageGroup.model_validate(values)
        engines = engines_of(stages, family_named("wan2.1-t2v"), GPU)
        settings = StageSettings(checkpoint="unused", **asdict(engines))
        return [
            (each.encoder_engine, each.vae_engine, each.vae_tiling)
            for each in lighter(stages, settings)
        ]

    encoders, tiles = ("graph", "torch", False), ("graph", "torch", True)
    assert lighter_engines() == [encoders, tiles, ("graph", "chunked", False)]
    # ONNX Runtime has no bf16 on a CPU.
    in_bf16 = lighter_engines(text_encoder_precisions=["bf16"], vae_tiling=False)
    assert in_bf16 == [("torch", "chunked", False)]
    assert lighter_engines(vae_precision="bf16") == [encoders, tiles]
    assert lighter_engines(encoder_engine="torch", vae_engine="torch", vae_tiling=True) == []


def test_export_makes_graphs_whatever_the_hardware() -> None:
    found = engines_of(StageGroup(), family_named("wan2.1-t2v"), GPU, exporting=True)
    assert found == Engines("bf16", "graph", (), "chunked", "fp32")


@pytest.mark.parametrize(
    ("flags", "bf16"),
    [("fpu avx512_bf16 sse", True), ("amx_bf16", True), ("fpu avx512f avx512_bf16x", False)],
)
def test_flags_of_the_cpu_are_read(tmp_path: Path, flags: str, bf16: bool) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(f"processor\t: 0\nflags\t\t: {flags}\n\nprocessor\t: 1\nflags\t\t: {flags}\n")
    assert Hardware.measure(gpu=False, cpuinfo=file) == Hardware(gpu=False, cpu_bf16=bf16)
    assert Hardware.measure(gpu=True, cpuinfo=tmp_path / "none") == Hardware(gpu=True)
