"""LoRAs from flags to the settings of the stages, checked before anything starts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from cli.main import run
from cli.params.stage_group import StageGroup
from cli.run.devices import Hardware
from cli.run.loras import lora_settings, with_loras, with_uses
from cli.run.stage_settings import stage_settings
from pipeline.checkpoint.folder import Checkpoint
from pipeline.errors import CheckpointError, InputError
from pipeline.families import SamplingParams
from pipeline.families.lora import LoraUse
from tests.conftest import SHAPES

CHECKPOINT = Checkpoint.open(SHAPES)
LAYER = "blocks.2.attn1.to_k"


def write(place: Path, rank: int = 2, **preset: Any) -> Path:
    """A LoRA of one layer in the file ``place``, and what its folder brings."""
    place.parent.mkdir(parents=True, exist_ok=True)
    tensors = {"A": torch.ones(rank, 192), "B": torch.ones(192, rank)}
    save_file({f"{LAYER}.lora_{part}.weight": each for part, each in tensors.items()}, place)
    if preset:
        (place.parent / "triton_video.json").write_text(json.dumps(preset))
    return place


def stages(**values: Any) -> StageGroup:
    return StageGroup.model_validate(values)


def found(**values: Any) -> dict[str, Any]:
    return lora_settings(CHECKPOINT, stages(**values))


def test_a_single_file_is_merged(tmp_path: Path) -> None:
    file = write(tmp_path / "a.safetensors")
    settings = stage_settings(CHECKPOINT, stages(lora=[f"x={file}:0.5"]), Hardware(gpu=False))
    assert settings.lora_fixed
    (lora,) = settings.loras
    assert (lora.name, lora.path, lora.scale, lora.elements) == ("x", str(file), 0.5, 4 * 192)
    assert settings.served_loras.chosen(None) == (LoraUse(name="x", scale=0.5),)


def test_loras_of_a_folder_wait_for_requests(tmp_path: Path) -> None:
    write(tmp_path / "a.safetensors")
    write(tmp_path / "b" / "any.safetensors")
    other = write(tmp_path.parent / "elsewhere" / "c.safetensors")
    none, some = found(lora_path=tmp_path), found(lora_path=tmp_path, lora=["b:2", f"c={other}"])
    assert [lora.name for lora in none["loras"]] == ["a", "b"]
    assert (none["lora"], none["lora_fixed"]) == ((), False)
    assert [lora.name for lora in some["loras"]] == ["a", "b", "c"]
    assert some["lora"] == (LoraUse(name="b", scale=2.0), LoraUse(name="c"))
    assert not some["lora_fixed"]


def test_no_flags_are_no_loras() -> None:
    assert found() == {"loras": (), "lora": (), "lora_fixed": False}
    assert with_loras(CHECKPOINT, stages()).info.loras.available == ()


def test_a_folder_brings_defaults(tmp_path: Path) -> None:
    file = write(tmp_path / "fast" / "x.safetensors", num_inference_steps=4, guidance_scale=1)
    assert file.exists()
    checkpoint = with_loras(CHECKPOINT, stages(lora=[f"fast={tmp_path / 'fast'}"]))
    request = checkpoint.info.resolve(SamplingParams(prompt="-"))
    assert (request.num_inference_steps, request.guidance_scale) == (4, 1.0)


@pytest.mark.parametrize(
    ("preset", "match"),
    [
        ({"num_inference_steps": 0}, "num_inference_steps: Input should be greater than"),
        ({"num_inference_steps": 900}, "num_inference_steps: 900 is too many"),
        ({"guidance_scale_2": 3}, "guidance_scale_2: not supported"),
        ({"steps": 4}, "steps: Extra inputs are not permitted"),
    ],
)
def test_defaults_of_a_lora_are_checked(tmp_path: Path, preset: Any, match: str) -> None:
    write(tmp_path / "a" / "x.safetensors", **preset)
    with pytest.raises(CheckpointError, match=rf"a/triton_video\.json: {match}"):
        found(lora_path=tmp_path)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"lora": ["b"]}, "lora: 'b' is not known; this server has a"),
        ({"lora": ["a", "a:2"]}, "lora: 'a' occurs twice"),
        ({"lora": ["a=FILE"]}, "lora: 'a' names two files"),
        ({"lora": ["a", "c=FILE"], "max_loras": 1}, "lora: 2 are too many"),
    ],
)
def test_names_must_fit_together(tmp_path: Path, values: dict[str, Any], match: str) -> None:
    file = write(tmp_path / "a.safetensors")
    values["lora"] = [each.replace("FILE", str(file)) for each in values["lora"]]
    with pytest.raises(InputError, match=match):
        found(lora_path=tmp_path, **values)


def test_a_name_without_a_folder_needs_a_path() -> None:
    with pytest.raises(InputError, match="lora: 'a' is not known; this server has no LoRAs"):
        found(lora=["a"])


def test_a_running_triton_is_asked_by_name() -> None:
    sampling = SamplingParams(prompt="-")
    chosen = with_uses(sampling, stages(lora=["a:2", "b"]))
    assert chosen.lora == (LoraUse(name="a", scale=2.0), LoraUse(name="b"))
    assert with_uses(sampling, stages()) == sampling
    with pytest.raises(InputError, match="lora: a=x is not allowed with --triton-url"):
        with_uses(sampling, stages(lora=["a=x"]))


def test_a_dry_run_names_the_loras_and_counts_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "style.safetensors", rank=1000)
    dry = ["generate", "--prompt", "p", "--runtime", "embedded", "--dry-run"]
    assert run([*dry, "--precision", "fp32", "--lora-path", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("loras: ") and '"style"' in line for line in lines)
    assert any("LoRAs" in line and line.endswith("1.5 MB") for line in lines)
