"""Random LoRAs of tiny checkpoints, in the layouts in which LoRAs are published."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders.lora_pipeline import WanLoraLoaderMixin
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from safetensors.torch import save_file

RANK = 4
Tensors = dict[str, torch.Tensor]

WAN_BLOCK = {
    "self_attn.q": "attn1.to_q",
    "self_attn.k": "attn1.to_k",
    "self_attn.v": "attn1.to_v",
    "self_attn.o": "attn1.to_out.0",
    "cross_attn.q": "attn2.to_q",
    "cross_attn.k": "attn2.to_k",
    "cross_attn.v": "attn2.to_v",
    "cross_attn.o": "attn2.to_out.0",
    "ffn.0": "ffn.net.0.proj",
    "ffn.2": "ffn.net.2",
}
"""A layer of a Wan block by its authors' name, and by diffusers' name."""
WAN_OTHERS = {
    "head.head": "proj_out",
    "time_projection.1": "condition_embedder.time_proj",
    "time_embedding.0": "condition_embedder.time_embedder.linear_1",
    "time_embedding.2": "condition_embedder.time_embedder.linear_2",
    "text_embedding.0": "condition_embedder.text_embedder.linear_1",
    "text_embedding.2": "condition_embedder.text_embedder.linear_2",
}


def names_of(model: Any, *, others: bool = True) -> dict[str, str]:
    """The layers of a Wan transformer: the authors' name -> diffusers' name."""
    blocks = {
        f"blocks.{number}.{theirs}": f"blocks.{number}.{ours}"
        for number in range(len(model.blocks))
        for theirs, ours in WAN_BLOCK.items()
    }
    return blocks | (WAN_OTHERS if others else {})


def pair(layer: torch.nn.Linear, seed: int, rank: int = RANK) -> tuple[torch.Tensor, torch.Tensor]:
    """Random low-rank matrices for ``layer``, of an effect as large as its weight's."""
    random = torch.Generator().manual_seed(seed)
    down = torch.randn(rank, layer.in_features, generator=random) * layer.in_features**-0.5
    up = torch.randn(layer.out_features, rank, generator=random) * rank**-0.5
    return down, up


def pairs(model: Any, layers: Iterable[str], seed: int = 0) -> Tensors:
    """A LoRA in the layout of diffusers."""
    made: Tensors = {}
    for number, name in enumerate(layers):
        down, up = pair(model.get_submodule(name), 1000 * seed + number)
        made[f"transformer.{name}.lora_A.weight"] = down
        made[f"transformer.{name}.lora_B.weight"] = up
    return made


def in_diffusers(model: Any, file: Path) -> None:
    save_file(pairs(model, names_of(model).values()), file)


def in_peft(model: Any, file: Path) -> None:
    """PEFT stores alpha in a configuration beside the file: one for most layers, some others."""
    named = {
        name.replace("transformer.", "base_model.model."): tensor
        for name, tensor in pairs(model, names_of(model).values(), seed=1).items()
    }
    save_file(named, file)
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": 6, "alpha_pattern": {"attn1.to_q": 2}}
    (file.parent / "adapter_config.json").write_text(json.dumps(config))


def in_authors(model: Any, file: Path) -> None:
    """As LightX2V publishes: the authors' names, differences of biases and of a whole weight."""
    made: Tensors = {}
    for number, (theirs, ours) in enumerate(names_of(model).items()):
        layer = model.get_submodule(ours)
        down, up = pair(layer, number)
        if theirs == "head.head":
            made[f"diffusion_model.{theirs}.diff"] = up @ down
        else:
            made[f"diffusion_model.{theirs}.lora_down.weight"] = down
            made[f"diffusion_model.{theirs}.lora_up.weight"] = up
        made[f"diffusion_model.{theirs}.diff_b"] = 0.1 * up[:, 0].contiguous()
    made["diffusion_model.blocks.0.norm3.diff"] = torch.zeros(model.config.ffn_dim)
    made["diffusion_model.blocks.0.diff_m"] = torch.zeros(1, 6, 4)
    save_file(made, file)


def in_authors_with_alpha(model: Any, file: Path) -> None:
    made: Tensors = {}
    for number, (theirs, ours) in enumerate(names_of(model, others=False).items()):
        down, up = pair(model.get_submodule(ours), number)
        made[f"diffusion_model.{theirs}.lora_A.weight"] = down
        made[f"diffusion_model.{theirs}.lora_B.weight"] = up
        made[f"diffusion_model.{theirs}.alpha"] = torch.tensor(1.0 + number % 3)
    save_file(made, file)


def in_kohya(model: Any, file: Path) -> None:
    made: Tensors = {}
    for number, (theirs, ours) in enumerate(names_of(model, others=False).items()):
        down, up = pair(model.get_submodule(ours), number)
        name = f"lora_unet_{theirs.replace('.', '_')}"
        made[f"{name}.lora_down.weight"] = down
        made[f"{name}.lora_up.weight"] = up
        made[f"{name}.alpha"] = torch.tensor(3.0, dtype=torch.bfloat16)
    save_file(made, file)


LAYOUTS: Mapping[str, Callable[[Any, Path], None]] = {
    "diffusers": in_diffusers,
    "peft": in_peft,
    "authors": in_authors,
    "authors-alpha": in_authors_with_alpha,
    "kohya": in_kohya,
}
"""Layout -> what writes a LoRA of all layers of a Wan transformer into a file."""


def transformer(checkpoint: Path, name: str = "transformer") -> WanTransformer3DModel:
    model = WanTransformer3DModel.from_pretrained(checkpoint / name)
    assert isinstance(model, WanTransformer3DModel)
    return model.eval()


def converted(file: Path) -> Tensors:
    """The tensors of a file of Wan as diffusers' converters give them, with alpha in them."""
    found = WanLoraLoaderMixin.lora_state_dict(str(file.parent), weight_name=file.name)
    assert isinstance(found, dict)
    return {name.removeprefix("transformer."): tensor for name, tensor in found.items()}


def merged(model: Any, tensors: Mapping[str, torch.Tensor], scale: float = 1.0) -> Any:
    """Add a LoRA in the layout of diffusers to the weights of ``model``, in float64."""
    with torch.no_grad():
        for name, down in tensors.items():
            if not name.endswith(".lora_A.weight"):
                continue
            stem = name.removesuffix(".lora_A.weight")
            layer = model.get_submodule(stem)
            product = tensors[f"{stem}.lora_B.weight"].double() @ down.double()
            layer.weight.copy_(layer.weight.double() + scale * product)
            if (bias := tensors.get(f"{stem}.lora_B.bias")) is not None:
                layer.bias.copy_(layer.bias.double() + scale * bias.double())
    return model


def velocity(model: Any, seed: int = 0) -> torch.Tensor:
    """The output of a Wan transformer for random inputs."""
    random, config = torch.Generator().manual_seed(seed), model.config
    dtype = next(model.parameters()).dtype
    hidden = torch.randn(1, config.in_channels, 2, 8, 8, generator=random).to(dtype)
    text = torch.randn(1, 5, config.text_dim, generator=random).to(dtype)
    with torch.inference_mode():
        return model(hidden, torch.tensor([500.0]), text, return_dict=False)[0]
