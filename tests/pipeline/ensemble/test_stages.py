"""The tables of tensors and stages are complete, and no other module spells out a tensor name."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.checkpoint.folder import Checkpoint
from pipeline.ensemble import tensors
from pipeline.ensemble.stages import CONTROL, STAGES, stages_for, steps_for
from pipeline.ensemble.tensors import CONDITIONS, Tensor
from pipeline.families.parts import PARTS

ROOT = Path(__file__).resolve().parents[3]
TABLE = ROOT / "pipeline" / "ensemble" / "tensors.py"
INFO = Checkpoint.open(ROOT / "models" / "shapes").info.model_copy(
    update={"image": "refused", "edits": False, "extends": False}
)
WITH_IMAGE = INFO.model_copy(update={"image": "optional"})
TWO_ENCODERS = INFO.model_copy(update={"pooled_dim": 20})


def names() -> set[str]:
    found = {value.name for value in vars(tensors).values() if isinstance(value, Tensor)}
    return found | {tensor.name for tensor in tensors.SAMPLING}


def texts(file: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and the value of every string in the module."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def test_no_other_module_spells_out_a_tensor_name() -> None:
    raw = names() | {tensor.key for tensor in CONDITIONS}
    found = [
        f"{file.relative_to(ROOT)}:{line}: {text}"
        for folder in ("cli", "export", "model_repository", "pipeline", "proxy")
        for file in sorted((ROOT / folder).rglob("*.py"))
        if file != TABLE
        for line, text in texts(file)
        if text in raw
    ]
    assert found == [], "use the constants of pipeline/ensemble/tensors.py"


def test_every_stage_has_code_and_every_part_has_a_stage() -> None:
    assert len({stage.name for stage in STAGES}) == len(STAGES)
    assert set(PARTS) <= {stage.name for stage in STAGES}
    for stage in STAGES:
        assert (ROOT / "model_repository" / stage.code / "1" / "model.py").is_file()


def test_a_model_has_the_stages_its_encoders_need() -> None:
    text = ["tokenizer", "text_encoder", "dit", "vae_decoder", "control"]
    assert [stage.name for stage in stages_for(INFO)] == text
    assert [stage.name for stage in stages_for(WITH_IMAGE)] == [
        *text[:2],
        "vae_encoder",
        *text[2:],
    ]
    assert [step.stage.name for step in steps_for(INFO)] == [*text[:2], "text_encoder", *text[2:4]]
    assert [step.stage.name for step in steps_for(TWO_ENCODERS)] == [
        *text[:2],
        "text_encoder_2",
        *text[2:4],
    ]


def test_only_vae_encoder_dit_and_vae_decoder_can_be_cancelled() -> None:
    cancellable = [stage.name for stage in STAGES if stage.cancellable]
    assert cancellable == ["vae_encoder", "dit", "vae_decoder"]
    assert not CONTROL.cancellable


@pytest.mark.parametrize(("image", "optional"), [("optional", True), ("required", False)])
def test_image_tensors_are_optional_if_the_image_is(image: str, optional: bool) -> None:
    info = INFO.model_copy(update={"image": image})
    by_name = {stage.name: stage for stage in stages_for(info)}
    assert by_name["vae_encoder"].inputs[1].optional is optional
    assert by_name["dit"].inputs[-1].optional is optional


def test_tensor_sizes_follow_the_model() -> None:
    assert tensors.LATENTS.of_model(INFO).dims == (1, INFO.latent_channels, -1, -1, -1)
    assert tensors.POOLED_EMBEDS.of_model(TWO_ENCODERS).dims == (-1, 20)
