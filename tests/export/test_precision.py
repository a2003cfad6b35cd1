"""What a half precision keeps in fp32, and that it holds where a plain cast overflows: the
models, in torch.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import (
    AutoencoderKLWan,
    WanRMS_norm,
    WanUpsample,
)
from transformers.models.umt5.modeling_umt5 import UMT5EncoderModel, UMT5LayerNorm

from export.graph import DTYPES
from export.precision import set_precision
from pipeline.settings import GraphPrecision
from tests.export.loud import make_loud

HALVES: tuple[GraphPrecision, ...] = ("bf16", "fp16")
IDS = torch.randint(1, 67, (2, 31), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def encoder(text_encoder_folder: Path) -> UMT5EncoderModel:
    return UMT5EncoderModel.from_pretrained(text_encoder_folder, dtype=torch.float32).eval()


@pytest.fixture
def loud(encoder: UMT5EncoderModel) -> UMT5EncoderModel:
    return make_loud(encoder)


def embeds(model: UMT5EncoderModel) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS, attention_mask=torch.ones_like(IDS)).last_hidden_state.float()


def cosine(one: torch.Tensor, other: torch.Tensor) -> float:
    return torch.nn.functional.cosine_similarity(
        one.flatten().double(), other.flatten().double(), dim=0
    ).item()


def test_fp32_changes_nothing(encoder: UMT5EncoderModel) -> None:
    before = embeds(encoder)

    assert set_precision(encoder, "UMT5EncoderModel", "fp32") == ()
    assert torch.equal(embeds(encoder), before)


@pytest.mark.parametrize("precision", HALVES)
def test_umt5_computes_its_linear_layers_in_half_precision(
    encoder: UMT5EncoderModel, precision: GraphPrecision
) -> None:
    kept = set_precision(encoder, "UMT5EncoderModel", precision)

    norms = {"encoder.block.*.layer.*.layer_norm", "encoder.final_layer_norm"}
    wo = "encoder.block.*.layer.*.DenseReluDense.wo"
    assert set(kept) == (norms | {wo} if precision == "fp16" else norms)
    for name, module in encoder.named_modules():
        if isinstance(module, UMT5LayerNorm) or (precision == "fp16" and name.endswith("wo")):
            assert module.weight.dtype == torch.float32, name
        elif isinstance(module, torch.nn.Linear | torch.nn.Embedding):
            assert module.weight.dtype == DTYPES[precision], name


@pytest.mark.parametrize("precision", HALVES)
def test_umt5_stays_near_fp32(encoder: UMT5EncoderModel, precision: GraphPrecision) -> None:
    expected = embeds(encoder)
    set_precision(encoder, "UMT5EncoderModel", precision)

    assert 0.999 < cosine(embeds(encoder), expected) < 1


def test_umt5_in_fp16_does_not_overflow_where_a_plain_cast_does(
    loud: UMT5EncoderModel, text_encoder_folder: Path
) -> None:
    expected = embeds(loud)
    plain = UMT5EncoderModel.from_pretrained(text_encoder_folder, dtype=torch.float32).eval()
    plain.load_state_dict(loud.state_dict())
    overflowed = embeds(plain.half())
    assert not overflowed.isfinite().all() or cosine(overflowed, expected) < 0.98, (
        "or this test shows nothing"
    )

    set_precision(loud, "UMT5EncoderModel", "fp16")

    assert embeds(loud).isfinite().all()
    assert cosine(embeds(loud), expected) > 0.999


@pytest.mark.parametrize("vae_folder", ["wan21"], indirect=True)
@pytest.mark.parametrize("precision", HALVES)
def test_vae_is_cast_but_for_norms_and_upsampling(
    vae_folder: Path, precision: GraphPrecision
) -> None:
    vae = AutoencoderKLWan.from_pretrained(vae_folder).eval()
    latents = torch.randn(1, 5, 2, 3, 4, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        (expected,) = vae.decode(latents, return_dict=False)
    seen: dict[str, tuple[torch.dtype, torch.dtype]] = {}

    kept = set_precision(vae, "AutoencoderKLWan", precision)
    for name, module in vae.decoder.named_modules():
        if isinstance(module, WanRMS_norm | WanUpsample):
            module.register_forward_hook(
                lambda module, args, result, name=name: seen.update(
                    {name: (args[0].dtype, result.dtype)}
                )
            )
    with torch.no_grad():
        (actual,) = vae.decode(latents.to(DTYPES[precision]), return_dict=False)

    assert "decoder.up_blocks.*.resnets.*.norm1" in kept
    assert len(seen) > 10
    assert set(seen.values()) == {(torch.float32, DTYPES[precision])}
    assert vae.decoder.conv_in.weight.dtype == DTYPES[precision]
    assert cosine(actual, expected) > 0.999
