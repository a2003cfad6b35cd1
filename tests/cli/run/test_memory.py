"""The memory notes and errors of commands, on machines of several sizes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.params.stage_group import StageGroup
from cli.run.devices import Hardware
from cli.run.memory import fitting_settings
from cli.run.stage_settings import stage_settings
from pipeline.checkpoint.folder import Checkpoint
from pipeline.errors import InputError
from pipeline.families import Bounds, SamplingParams, bounds
from pipeline.memory.capacity import Capacity
from pipeline.settings import StageSettings
from scripts.published import PUBLISHED
from tests.conftest import SHAPES

CPU, GPU = Capacity(1 << 40), Capacity(1 << 40, (1 << 40,))


def fit(
    capacity: Capacity, *, verbose: bool = False, **values: Any
) -> tuple[StageSettings, list[str]]:
    notes: list[str] = []
    params = StageGroup.model_validate(values)
    settings = fitting_settings(
        Checkpoint.open(SHAPES), params, None, notes.append, verbose=verbose, capacity=capacity
    )
    return settings, notes


def test_verbose_adds_the_memory_table() -> None:
    _, short = fit(CPU)
    _, long = fit(CPU, verbose=True)
    assert len(short) == 1
    assert short[0].startswith("memory: needs ")
    assert long[0] == short[0]
    assert long[1].split() == ["stage", "engine", "precision", "device", "memory"]
    stages = ["text_encoder", "vae_encoder", "dit", "vae_decoder"]
    assert [line.split()[0] for line in long[2:6]] == stages
    assert [line.split("  ")[1] for line in long[6:8]] == ["triton", "text_encoder"]


def test_attention_backend_is_checked_against_the_machine() -> None:
    with pytest.raises(InputError, match=r"^attention_backend: cudnn needs an NVIDIA GPU"):
        fit(CPU, attention_backend="cudnn")
    with pytest.raises(InputError, match=r"flash needs --precision bf16"):
        fit(GPU, attention_backend="flash", precision="fp32")
    # Its capability and the packages of its ranks are not known here.
    assert fit(GPU, attention_backend="flash3")[0].attention_backend == "flash3"


def test_flags_without_effect_are_noted() -> None:
    asked = {
        "dit_layerwise_offload": True,
        "pin_cpu_memory": True,
        "text_encoder_cpu_offload": True,
    }
    settings, (_, *notes) = fit(CPU, **asked)
    assert notes == [
        "text_encoder_cpu_offload has no effect: the text encoders run on the CPU",
        "dit_layerwise_offload has no effect: there is no GPU",
        "pin_cpu_memory has no effect: there is no GPU",
    ]
    assert (settings.offload, settings.pin_cpu_memory) == ("layer", True)


def test_flags_of_engines_are_noted_in_other_flavours() -> None:
    asked = {"engine_max_pixels": 1 << 20, "weight_streaming_bytes": 0}
    _, (_, *notes) = fit(CPU, **asked)
    assert notes == [f"{name} has no effect: it is for the flavour tensorrt" for name in asked]
    _, (_, *notes) = fit(CPU, **asked, flavour="tensorrt")
    assert notes == []


def test_effective_flags_are_not_noted() -> None:
    settings, notes = fit(GPU, dit_layerwise_offload=True, pin_cpu_memory=True)
    assert len(notes) == 1
    assert (settings.offload, settings.pin_cpu_memory) == ("layer", True)
    _, (_, note) = fit(GPU, pin_cpu_memory=True)
    assert note == "pin_cpu_memory has no effect: all weights stay on the GPU"


def test_image_to_video_model_is_planned_with_an_image(
    build_family: Callable[[str], Path],
) -> None:
    checkpoint, notes = Checkpoint.open(build_family("wan2.1-i2v")), []
    fitting_settings(checkpoint, StageGroup(), None, notes.append, verbose=True, capacity=CPU)
    assert any("image_encoder" in note for note in notes)


def test_tiles_that_nobody_asked_for_are_noted(build_family: Callable[[str], Path]) -> None:
    checkpoint, tiling = Checkpoint.open(build_family("hunyuan-video")), "the VAE decodes in tiles"
    for asked, noted in ((None, True), (True, False), (False, False)):
        notes: list[str] = []
        group = StageGroup(vae_tiling=asked)
        fitting_settings(checkpoint, group, None, notes.append, verbose=False, capacity=CPU)
        assert any(note.startswith(tiling) for note in notes) == noted


def test_model_that_does_not_fit_is_refused_without_notes() -> None:
    with pytest.raises(InputError, match=r"^model_path: needs .* on the host"):
        fit(Capacity(1 << 20))


def test_engine_export_refuses_text_encoder_cpu_offload() -> None:
    stages, checkpoint = StageGroup(text_encoder_cpu_offload=True), Checkpoint.open(SHAPES)
    assert stage_settings(checkpoint, stages, Hardware(gpu=False)).offload == "none"
    with pytest.raises(
        InputError,
        match=r"^text_encoder_cpu_offload: not available: TensorRT engines run on the GPU",
    ):
        stage_settings(
            checkpoint, stages.model_copy(update={"flavour": "tensorrt"}), Hardware(gpu=False)
        )


@pytest.mark.parametrize("flavour", ["python", "tensorrt"])
def test_a_video_that_no_engine_takes_is_refused_before_a_server_starts(flavour: str) -> None:
    checkpoint = Checkpoint.open(SHAPES)
    stages = StageGroup.model_validate({"flavour": flavour, "engine_max_pixels": 4096})
    params = SamplingParams(prompt="p", width=80, height=64)
    refused = pytest.raises(InputError, match=r"^width: 80x64 .*--engine-max-pixels 5120")
    with refused if flavour == "tensorrt" else contextlib.nullcontext():
        fitting_settings(
            checkpoint,
            stages,
            checkpoint.info.resolve(params),
            [].append,
            verbose=False,
            capacity=CPU,
        )


@pytest.mark.parametrize(
    ("capacity", "device"), [(CPU, bounds.CPU), (GPU, bounds.GPU)], ids=["cpu", "gpu"]
)
def test_unset_limits_default_to_the_device(capacity: Capacity, device: Bounds) -> None:
    checkpoint = Checkpoint.open(SHAPES)
    for asked in (Bounds(), Bounds(max_frames=5), Bounds(max_cost=0)):
        notes: list[str] = []
        settings = fitting_settings(
            checkpoint,
            StageGroup(),
            None,
            notes.append,
            verbose=False,
            capacity=capacity,
            bounds=asked,
        )
        assert settings.bounds == asked.settled(device)
        refused = [note for note in notes if "--max-frames" in note]
        assert len(refused) == (asked.max_frames == 5), (
            "a model whose default is refused is worth a note"
        )


def test_generate_has_no_limits() -> None:
    assert fit(CPU)[0].bounds == Bounds()


def test_what_does_not_fit_the_gpu_runs_on_the_cpu(tmp_path: Path) -> None:
    checkpoint = Checkpoint.open(PUBLISHED["Wan2.1-T2V-1.3B"](tmp_path))

    def engines(size: int, **values: Any) -> tuple[str, str]:
        settings = fitting_settings(
            checkpoint,
            StageGroup.model_validate(values),
            None,
            notes.append,
            verbose=False,
            capacity=Capacity(1 << 40, (size << 30,)),
        )
        return settings.encoder_engine, settings.vae_engine

    notes: list[str] = []
    assert engines(48) == ("torch", "torch")
    assert not [note for note in notes if "on the CPU" in note]
    assert engines(16) == ("graph", "torch")
    assert "the encoders do not fit the GPU beside the rest: they run on the CPU" in notes
    with pytest.raises(InputError, match=r"with --text-encoder-cpu-offload or|encoder-engine"):
        engines(16, encoder_engine="torch")
