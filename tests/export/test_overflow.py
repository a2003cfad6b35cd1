"""What overflows in fp16 is found in the weights, whatever is known of the class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from transformers.models.umt5.modeling_umt5 import UMT5EncoderModel

from export.components import component_for
from export.graph import Graph
from export.overflow import overflowing
from export.precision import set_precision
from pipeline.families.parts import TEXT_ENCODER
from tests.export.exporting import BOUNDS
from tests.export.loud import make_loud

pytestmark = pytest.mark.export

CLASS = "UMT5EncoderModel"
UNKNOWN = "SomeEncoder"  # no list of modules is kept for it


@pytest.fixture
def folder(text_encoder_folder: Path) -> Path:
    return text_encoder_folder


def load(folder: Path) -> UMT5EncoderModel:
    return UMT5EncoderModel.from_pretrained(folder, dtype=torch.float32).eval()


def graphs(model: UMT5EncoderModel) -> Sequence[Graph]:
    return component_for(TEXT_ENCODER, CLASS).graphs(model, BOUNDS)


@pytest.mark.parametrize("class_name", [CLASS, UNKNOWN])
def test_no_module_is_found_without_overflow(folder: Path, class_name: str) -> None:
    assert overflowing(lambda: load(folder), graphs, class_name) == ()


def test_wo_is_found_without_being_listed(folder: Path) -> None:
    found = overflowing(lambda: make_loud(load(folder)), graphs, UNKNOWN)

    assert found == ("encoder.block.*.layer.*.DenseReluDense.wo",)
    assert overflowing(lambda: make_loud(load(folder)), graphs, CLASS) == (), "known beforehand"


def test_kept_modules_no_longer_overflow(folder: Path) -> None:
    def louder() -> UMT5EncoderModel:
        model = load(folder)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith("wi_0.weight"):
                    parameter.mul_(1e6)
        return model

    found = overflowing(louder, graphs, CLASS)

    assert found[0] == "encoder.block.*.layer.*.DenseReluDense.wi_0"
    model = louder()
    kept = set_precision(model, CLASS, "fp16", found)
    assert "encoder.block.*.layer.*.DenseReluDense.wi_0" in kept
    with torch.no_grad():
        ids = torch.arange(1, 60)[None]
        assert (
            model(input_ids=ids, attention_mask=torch.ones_like(ids))
            .last_hidden_state.isfinite()
            .all()
        )


def test_a_vae_has_no_overflowing_modules(folder: Path) -> None:
    assert overflowing(lambda: load(folder), graphs, "AutoencoderKLWan") == ()
