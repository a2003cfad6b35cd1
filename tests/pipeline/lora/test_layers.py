"""LoRAs are added, merged and switched without a trace in the model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.checkpoint.folder import Checkpoint
from pipeline.diffusion.step_cache import BlockStack
from pipeline.errors import CheckpointError
from pipeline.families.lora import LoraFile, LoraUse
from pipeline.lora.layers import LoraLayers, merge
from pipeline.ranks.offload import ExpertSwapper, offload_layers
from tests.loras import LAYOUTS, names_of, pairs, transformer, velocity

CPU = torch.device("cpu")
A, B = LoraUse(name="a", scale=1.0), LoraUse(name="b", scale=-0.5)


@pytest.fixture
def files(patch_checkpoint: Path, tmp_path: Path) -> dict[str, LoraFile]:
    """Two LoRAs of all layers, with matrices and biases, and one of a single layer."""
    model = transformer(patch_checkpoint)
    LAYOUTS["authors"](model, tmp_path / "a.safetensors")
    save_file(pairs(model, names_of(model).values(), seed=5), tmp_path / "b.safetensors")
    save_file(pairs(model, ["blocks.0.ffn.net.2"], seed=6), tmp_path / "c.safetensors")
    return {name: LoraFile(name=name, path=str(tmp_path / f"{name}.safetensors")) for name in "abc"}


def layers_of(
    checkpoint: Path, model: torch.nn.Module, files: dict[str, LoraFile], most: int = 4
) -> LoraLayers:
    return LoraLayers(Checkpoint.open(checkpoint), [model], files.values(), CPU, most)


def test_merged_equals_added(patch_checkpoint: Path, files: dict[str, LoraFile]) -> None:
    model = transformer(patch_checkpoint)
    layers_of(patch_checkpoint, model, files).use((A, B))
    added, weights = velocity(model), transformer(patch_checkpoint)
    merge(Checkpoint.open(patch_checkpoint), 0, weights, files, (A, B))
    torch.testing.assert_close(velocity(weights), added, rtol=0, atol=1e-4)


def test_merging_rounds_once_to_the_type_of_the_weights(
    patch_checkpoint: Path, files: dict[str, LoraFile]
) -> None:
    exact, half = transformer(patch_checkpoint).bfloat16().float(), transformer(patch_checkpoint)
    half.bfloat16()
    for model in (exact, half):
        merge(Checkpoint.open(patch_checkpoint), 0, model, files, (A,))
    for name, parameter in half.named_parameters():
        assert torch.equal(parameter, exact.get_parameter(name).bfloat16()), name


def test_switching_leaves_no_trace(patch_checkpoint: Path, files: dict[str, LoraFile]) -> None:
    model = transformer(patch_checkpoint)
    plain = velocity(model)
    layers = layers_of(patch_checkpoint, model, files)
    found = {}
    for uses in ((), (A,), (A, B), (B,), (LoraUse(name="a", scale=0.3),), (A,), (B,), ()):
        layers.use(uses)
        made = velocity(model)
        assert torch.equal(made, found.setdefault(uses, made)), uses
    assert torch.equal(found[()], plain)
    assert len({made.sum().item() for made in found.values()}) == len(found)


def test_the_least_recently_used_lora_is_freed(
    patch_checkpoint: Path, files: dict[str, LoraFile]
) -> None:
    layers = layers_of(patch_checkpoint, transformer(patch_checkpoint), files, most=2)
    for name, expected in (("a", "a"), ("b", "ab"), ("a", "ba"), ("c", "ac"), ("b", "cb")):
        layers.use((LoraUse(name=name, scale=1.0),))
        assert "".join(layers.loaded) == expected


def test_a_file_that_changed_applies_nothing(
    patch_checkpoint: Path, files: dict[str, LoraFile]
) -> None:
    model = transformer(patch_checkpoint)
    plain, layers = velocity(model), layers_of(patch_checkpoint, model, files)
    layers.use((A,))
    Path(files["b"].path).write_bytes(b"short")
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        layers.use((A, B))
    assert torch.equal(velocity(model), plain)
    layers.use((A,))
    assert not torch.equal(velocity(model), plain)


def test_the_type_of_the_model_is_kept(patch_checkpoint: Path, files: dict[str, LoraFile]) -> None:
    model, exact = transformer(patch_checkpoint).bfloat16(), transformer(patch_checkpoint)
    for each in (model, exact):
        layers_of(patch_checkpoint, each, files).use((A,))
    made, expected = velocity(model), velocity(exact)
    assert made.dtype == torch.bfloat16
    assert (made.float() - expected).abs().mean() < 0.05 * expected.abs().mean()


def test_offloaded_layers_take_loras(patch_checkpoint: Path, files: dict[str, LoraFile]) -> None:
    model, offloaded = transformer(patch_checkpoint), transformer(patch_checkpoint)
    offload_layers(offloaded, CPU)
    for each in (model, offloaded):
        layers_of(patch_checkpoint, each, files).use((A, B))
    assert torch.equal(velocity(offloaded), velocity(model))


def test_swapped_experts_take_their_own_loras(
    build_family: Callable[[str], Path], tmp_path: Path
) -> None:
    checkpoint = build_family("wan2.2-t2v")
    models = [transformer(checkpoint, name) for name in ("transformer", "transformer_2")]
    for number, name in enumerate(("x_HIGH_noise", "x_LOW_noise")):
        save_file(
            pairs(models[number], names_of(models[number]).values(), seed=number),
            tmp_path / f"{name}.safetensors",
        )
    layers = LoraLayers(
        Checkpoint.open(checkpoint), models, [LoraFile(name="a", path=str(tmp_path))], CPU, 1
    )
    swapped = ExpertSwapper(models, torch.Tensor.clone)
    layers.use((A,))
    made = [velocity(swapped[expert]) for expert in (1, 0, 1)]
    for expert, name in ((0, "x_HIGH_noise"), (1, "x_LOW_noise")):
        plain = transformer(checkpoint, ("transformer", "transformer_2")[expert])
        file = LoraFile(name="a", path=str(tmp_path / f"{name}.safetensors"))
        merge(Checkpoint.open(checkpoint), expert, plain, {"a": file}, (A,))
        torch.testing.assert_close(made[1 - expert], velocity(plain), rtol=0, atol=1e-4)
    assert torch.equal(made[0], made[2])


@pytest.mark.parametrize("single", [False, True])
def test_hunyuan_video_takes_fused_layers_of_its_authors(
    build_family: Callable[[str], Path], tmp_path: Path, single: bool
) -> None:
    """The authors' layers have the outputs of several of diffusers' layers, one after another."""
    from diffusers.models.transformers.transformer_hunyuan_video import (
        HunyuanVideoTransformer3DModel,
    )

    path = build_family("hunyuan-video")
    model = HunyuanVideoTransformer3DModel.from_pretrained(path / "transformer")
    blocks = "single_transformer_blocks.0" if single else "transformer_blocks.0"
    theirs = "single_blocks_0_linear1" if single else "double_blocks_0_txt_attn_qkv"
    parts = (
        ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")
        if single
        else ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj")
    )
    layers = [model.get_submodule(f"{blocks}.{part}") for part in parts]
    random = torch.Generator().manual_seed(0)
    down = torch.randn(3, layers[0].in_features, generator=random)
    ups = [torch.randn(layer.out_features, 3, generator=random) for layer in layers]
    file = tmp_path / "lora.safetensors"
    save_file(
        {
            f"lora_unet_{theirs}.lora_down.weight": down,
            f"lora_unet_{theirs}.lora_up.weight": torch.cat(ups),
            f"lora_unet_{theirs}.alpha": torch.tensor(6.0),
        },
        file,
    )
    before = [layer.weight.detach().clone() for layer in layers]
    merge(Checkpoint.open(path), 0, model, {"a": LoraFile(name="a", path=str(file))}, (A,))
    for layer, weight, up in zip(layers, before, ups, strict=True):
        torch.testing.assert_close(layer.weight - weight, 2 * up @ down, rtol=0, atol=1e-5)
    assert len(load_file(file)) == 3


def test_a_step_cache_and_loras_share_a_model(
    patch_checkpoint: Path, files: dict[str, LoraFile]
) -> None:
    """The step cache puts modules between the blocks, which renames their layers."""
    model, plain = transformer(patch_checkpoint), transformer(patch_checkpoint)
    layers = layers_of(patch_checkpoint, model, files)
    stack = BlockStack(model)
    layers.use((A,))
    layers_of(patch_checkpoint, plain, files).use((A,))
    with stack.recording() as residual:
        made = velocity(model)
    assert torch.equal(made, velocity(plain))
    with stack.reusing(residual[0]):
        torch.testing.assert_close(velocity(model), made, rtol=0, atol=1e-5)
