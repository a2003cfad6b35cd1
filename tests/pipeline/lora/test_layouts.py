"""A LoRA in any layout gives what diffusers gives: its tensors, merged into the weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.checkpoint.folder import Checkpoint
from pipeline.families.lora import LoraFile, LoraUse
from pipeline.lora.adapter import open_adapter
from pipeline.lora.layers import LoraLayers
from tests import loras
from tests.loras import LAYOUTS, converted, merged, names_of, pairs, transformer, velocity

CPU = torch.device("cpu")
TOLERANCE = 2e-5


def applied(checkpoint: Path, file: Path, scale: float = 1.0) -> torch.Tensor:
    """The output of the checkpoint's transformer with the LoRA in ``file``."""
    model = transformer(checkpoint)
    layers = LoraLayers(
        Checkpoint.open(checkpoint), [model], [LoraFile(name="a", path=str(file))], CPU, most=1
    )
    layers.use((LoraUse(name="a", scale=scale),))
    return velocity(model)


@pytest.mark.parametrize("scale", [1.0, 0.6])
@pytest.mark.parametrize("layout", ["diffusers", "authors", "authors-alpha", "kohya"])
def test_each_layout_gives_what_diffusers_reads(
    patch_checkpoint: Path, tmp_path: Path, layout: str, scale: float
) -> None:
    model, file = transformer(patch_checkpoint), tmp_path / "lora.safetensors"
    LAYOUTS[layout](model, file)
    before, after = velocity(model), velocity(merged(model, converted(file), scale))
    assert (after - before).abs().max() > 0.1, "the LoRA must matter"
    torch.testing.assert_close(
        applied(patch_checkpoint, file, scale), after, rtol=0, atol=TOLERANCE
    )


def test_alphas_of_peft_scale_their_layers(patch_checkpoint: Path, tmp_path: Path) -> None:
    model, file = transformer(patch_checkpoint), tmp_path / "adapter_model.safetensors"
    LAYOUTS["peft"](model, file)
    tensors = {
        name.removeprefix("base_model.model."): tensor for name, tensor in load_file(file).items()
    }
    for name, tensor in tensors.items():
        if name.endswith("lora_B.weight"):
            alpha = 2 if ".attn1.to_q." in name else 6
            tensors[name] = tensor * (alpha / loras.RANK)
    expected = velocity(merged(model, tensors))
    torch.testing.assert_close(
        applied(patch_checkpoint, tmp_path), expected, rtol=0, atol=TOLERANCE
    )


def test_metadata_of_diffusers_scales(patch_checkpoint: Path, tmp_path: Path) -> None:
    model, file = transformer(patch_checkpoint), tmp_path / "pytorch_lora_weights.safetensors"
    made = pairs(model, names_of(model).values())
    config = '{"transformer.r": 4, "transformer.lora_alpha": 2, "transformer.use_rslora": true}'
    save_file(made, file, metadata={"lora_adapter_metadata": config})
    plain = {name.removeprefix("transformer."): tensor for name, tensor in made.items()}
    expected = velocity(merged(model, plain, scale=2 / 4**0.5))
    torch.testing.assert_close(applied(patch_checkpoint, file), expected, rtol=0, atol=TOLERANCE)


def test_kohya_files_of_some_layers_apply(patch_checkpoint: Path, tmp_path: Path) -> None:
    """diffusers' converter needs every layer of a block and an alpha."""
    model, file = transformer(patch_checkpoint), tmp_path / "lora.safetensors"
    down, up = loras.pair(model.blocks[1].attn2.to_v, seed=3)
    save_file(
        {
            "lora_unet_blocks_1_cross_attn_v.lora_down.weight": down,
            "lora_unet_blocks_1_cross_attn_v.lora_up.weight": up,
        },
        file,
    )
    tensors = {"blocks.1.attn2.to_v.lora_A.weight": down, "blocks.1.attn2.to_v.lora_B.weight": up}
    expected = velocity(merged(model, tensors))
    torch.testing.assert_close(applied(patch_checkpoint, file), expected, rtol=0, atol=TOLERANCE)


def test_layers_for_an_image_are_left_out_of_a_model_without_one(
    patch_checkpoint: Path, tmp_path: Path
) -> None:
    """LightX2V's LoRAs for Wan 2.2 I2V have the image layers of Wan 2.1 I2V."""
    model, file = transformer(patch_checkpoint), tmp_path / "lora.safetensors"
    LAYOUTS["authors"](model, file)
    used = open_adapter(file, Checkpoint.open(patch_checkpoint))
    extra = {
        f"diffusion_model.{layer}.{role}": torch.zeros(3, 3)
        for layer in ("blocks.0.cross_attn.k_img", "blocks.0.cross_attn.v_img", "img_emb.proj.1")
        for role in ("lora_down.weight", "lora_up.weight", "diff_b")
    }
    save_file(load_file(file) | extra, file)
    found = open_adapter(file, Checkpoint.open(patch_checkpoint))
    assert found.patches == used.patches
    assert (used.unused, found.unused) == (2, 2 + len(extra))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_elements_are_counted(patch_checkpoint: Path, tmp_path: Path, layout: str) -> None:
    file = tmp_path / "lora.safetensors"
    LAYOUTS[layout](transformer(patch_checkpoint), file)
    used = [
        tensor.numel()
        for name, tensor in load_file(file).items()
        if not name.endswith(("norm3.diff", "diff_m"))
    ]
    assert open_adapter(file, Checkpoint.open(patch_checkpoint)).elements == sum(used)
