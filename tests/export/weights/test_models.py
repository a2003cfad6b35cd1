"""Models without memory, and with mapped weights, beside what ``from_pretrained`` makes of the
same folder.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl_hunyuan_video import AutoencoderKLHunyuanVideo
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from safetensors.torch import load_file, save_file
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaModel,
    UMT5Config,
    UMT5EncoderModel,
)

from export.components import Component
from export.parameters import fake_parameters
from export.weights import empty_model, mapped_model
from export.weights.models import stored_names
from pipeline.errors import CheckpointError
from tests.vaes import VAES

CLIP = {
    "hidden_size": 12,
    "intermediate_size": 20,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
}
LLAMA = LlamaConfig(
    vocab_size=31,
    hidden_size=24,
    intermediate_size=20,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
)
MODELS: dict[str, Callable[[], Any]] = {
    "umt5": lambda: UMT5EncoderModel(
        UMT5Config(vocab_size=67, d_model=20, d_kv=5, d_ff=18, num_layers=2, num_heads=3)
    ),
    "llama": lambda: LlamaModel(LLAMA),
    "clip_text": lambda: CLIPTextModel(
        CLIPTextConfig(vocab_size=40, max_position_embeddings=9, **CLIP)
    ),
    "clip_vision": lambda: CLIPVisionModel(CLIPVisionConfig(image_size=12, patch_size=4, **CLIP)),
    "wan_vae": lambda: AutoencoderKLWan(**VAES["wan21"]),
    "hunyuan_vae": lambda: AutoencoderKLHunyuanVideo(
        latent_channels=3, block_out_channels=(4, 4, 8, 8), layers_per_block=1, norm_num_groups=2
    ),
}

IDS = torch.tensor([[3, 5, 1]])
RUNS: dict[str, Callable[[Any, torch.dtype], torch.Tensor]] = {
    "umt5": lambda model, _: model(IDS).last_hidden_state,
    "llama": lambda model, _: model(IDS).last_hidden_state,
    "clip_text": lambda model, _: model(IDS).pooler_output,
    "clip_vision": lambda model, dtype: model(torch.ones(1, 3, 12, 12, dtype=dtype)).pooler_output,
    "wan_vae": lambda model, dtype: model.decode(torch.ones(1, 5, 2, 2, 3, dtype=dtype)).sample,
    "hunyuan_vae": lambda model, dtype: model.decode(torch.ones(1, 3, 2, 2, 3, dtype=dtype)).sample,
}


def saved(model: Any, folder: Path, shard: str = "10GB") -> Path:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    model.save_pretrained(folder, max_shard_size=shard)
    return folder


def component(model_class: type) -> Component:
    return Component(lambda: model_class, lambda model, bounds: ())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shard", ["10GB", "10KB"], ids=["one file", "shards"])
@pytest.mark.parametrize("name", MODELS)
def test_models_equal_from_pretrained(
    name: str, shard: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    made = MODELS[name]()
    saved(made, tmp_path, shard)
    expected = type(made).from_pretrained(tmp_path, dtype=dtype)

    empty = empty_model(component(type(made)), tmp_path, dtype)
    mapped = mapped_model(component(type(made)), tmp_path, dtype)

    wanted = dict(expected.named_parameters())
    assert [(n, p.dtype, p.shape) for n, p in empty.named_parameters()] == [
        (n, p.dtype, p.shape) for n, p in wanted.items()
    ]
    assert all(parameter.is_meta for parameter in empty.parameters())
    assert (empty.training, mapped.training) == (False, False)
    for model in (empty, mapped):
        buffers = dict(model.named_buffers())
        assert buffers.keys() == dict(expected.named_buffers()).keys()
        for path, buffer in expected.named_buffers():
            assert buffers[path].dtype == buffer.dtype
            assert torch.equal(buffers[path], buffer), path
    if dtype == torch.float32:
        for path, parameter in mapped.named_parameters():
            assert torch.equal(parameter, wanted[path]), path
    with torch.no_grad():
        assert torch.equal(RUNS[name](mapped, dtype), RUNS[name](expected, dtype))


def test_a_tied_tensor_has_the_name_of_the_stored_one(tmp_path: Path) -> None:
    saved(MODELS["umt5"](), tmp_path)
    names = stored_names(empty_model(component(UMT5EncoderModel), tmp_path, torch.float32))
    assert names["encoder.embed_tokens.weight"] == names["shared.weight"] == "shared.weight"


def test_names_of_an_outer_model_are_resolved(tmp_path: Path) -> None:
    """A whole language model's checkpoint serves its base model: as HunyuanVideo's text encoder
    is made.
    """
    whole = LlamaForCausalLM(LLAMA)
    saved(whole, tmp_path)
    mapped = mapped_model(component(LlamaModel), tmp_path, torch.float32)
    assert torch.equal(
        mapped.layers[1].mlp.up_proj.weight, whole.model.layers[1].mlp.up_proj.weight
    )


def test_names_follow_the_parts_into_another_arrangement(tmp_path: Path) -> None:
    saved(MODELS["wan_vae"](), tmp_path)
    vae = empty_model(component(AutoencoderKLWan), tmp_path, torch.float32).to(torch.bfloat16)
    assert (
        stored_names(torch.nn.ModuleDict({"it": vae.decoder}))["it.conv_in.weight"]
        == "decoder.conv_in.weight"
    )


def test_weights_stay_in_their_file(tmp_path: Path) -> None:
    saved(MODELS["clip_text"](), tmp_path)
    mapped = mapped_model(component(CLIPTextModel), tmp_path, torch.float32)
    file = str((tmp_path / "model.safetensors").resolve())
    spans = [
        line.split()[0].split("-")
        for line in Path("/proc/self/maps").read_text().splitlines()
        if file in line
    ]
    for parameter in mapped.parameters():
        assert any(int(start, 16) <= parameter.data_ptr() < int(end, 16) for start, end in spans)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_fakes_are_removed_after_the_block(tmp_path: Path, dtype: torch.dtype) -> None:
    saved(MODELS["umt5"](), tmp_path)
    model = mapped_model(component(UMT5EncoderModel), tmp_path, dtype)
    before = dict(model.named_parameters())
    with fake_parameters(model) as fakes:
        with fakes:
            assert model(IDS).last_hidden_state.fake_mode is fakes
        assert model.shared.weight is model.encoder.embed_tokens.weight
    assert all(parameter is before[name] for name, parameter in model.named_parameters())


def without(folder: Path, name: str) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file(
        {n: t for n, t in tensors.items() if n != name},
        folder / "model.safetensors",
        {"format": "pt"},
    )


def of_another_shape(folder: Path, name: str) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors | {name: torch.zeros(3)}, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (
            without,
            r"no file has the tensor encoder\.final_layer_norm\.weight, "
            r"which a UMT5EncoderModel needs",
        ),
        (
            of_another_shape,
            r"model\.safetensors: encoder\.final_layer_norm\.weight "
            r"has the shape \[3\], not \[20\]",
        ),
    ],
)
def test_a_missing_tensor_is_named(
    tmp_path: Path, damage: Callable[[Path, str], None], said: str
) -> None:
    saved(MODELS["umt5"](), tmp_path)
    damage(tmp_path, "encoder.final_layer_norm.weight")
    with pytest.raises(CheckpointError, match=said):
        empty_model(component(UMT5EncoderModel), tmp_path, torch.float32)
    shutil.rmtree(tmp_path)
