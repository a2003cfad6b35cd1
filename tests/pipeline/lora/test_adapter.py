"""Files that are no LoRA of the model, or hostile, are refused before anything is loaded."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from pipeline.checkpoint.folder import Checkpoint
from pipeline.checkpoint.safetensors_header import MAX_HEADER_BYTES
from pipeline.errors import CheckpointError, InputError
from pipeline.lora.adapter import Adapter, open_adapter
from pipeline.lora.sources import loras_in
from tests.conftest import SHAPES
from tests.hostile_checkpoints import edit_header, to_pipe

CHECKPOINT = Checkpoint.open(SHAPES)
LAYER = "blocks.2.attn1.to_k"  # 192 x 192


def tensors(rank: int = 4, inputs: int = 192, outputs: int = 192, **more: Any) -> dict[str, Any]:
    return {
        f"{LAYER}.lora_A.weight": torch.ones(rank, inputs),
        f"{LAYER}.lora_B.weight": torch.ones(outputs, rank),
        **{f"{LAYER}.{name}": tensor for name, tensor in more.items()},
    }


def opened(folder: Path, values: dict[str, Any] | None = None) -> Adapter:
    file = folder / "lora.safetensors"
    save_file(tensors() if values is None else values, file)
    return open_adapter(file, CHECKPOINT)


def refused(folder: Path, values: dict[str, Any], match: str) -> None:
    with pytest.raises(CheckpointError, match=match):
        opened(folder, values)


def test_a_small_lora_is_accepted(tmp_path: Path) -> None:
    ((patch,),) = opened(tmp_path).patches
    assert (patch.layer, patch.first, patch.last, patch.factor) == (LAYER, 0, 192, 1.0)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        (tensors(inputs=96), rf"{LAYER}.lora_A.weight is \[4, 96\]; {LAYER} .* needs \[4, 192\]"),
        (tensors(outputs=96), rf"{LAYER}.lora_B.weight is \[96, 4\]; .* needs \[192, 4\]"),
        (tensors(diff_b=torch.ones(3)), rf"{LAYER}.diff_b is \[3\]; .* needs \[192\]"),
        (tensors(diff=torch.ones(2, 192)), rf"{LAYER}.diff is \[2, 192\]; .* needs \[192, 192\]"),
        (tensors(alpha=torch.ones(2)), r"alpha is F32 \[2\]; an alpha is one number"),
        (tensors(alpha=torch.tensor(torch.nan)), "alpha is nan; an alpha is a finite number"),
        (tensors(dora_scale=torch.ones(192)), "DoRA, which is not supported"),
        ({"blocks.0.ffn.0.lokr_w1": torch.ones(2, 2)}, "LoKr, which is not supported"),
        ({f"{LAYER}.hada_w1_a": torch.ones(2, 2)}, "LoHa, which is not supported"),
        (
            {name: tensor.to(torch.int8) for name, tensor in tensors().items()},
            "lora_A.weight is of type I8; it must be one of F64, F32, F16, BF16",
        ),
        (
            {f"{LAYER}.lora_A.weight": torch.ones(4, 192)},
            "lora_A.weight has no second matrix beside it",
        ),
        (
            {f"transformer.{name}": tensor for name, tensor in tensors().items()} | tensors(),
            f"{LAYER}.lora_A.weight are the same tensor|{LAYER}.lora_B.weight are the same",
        ),
        (
            {f"blocks.8.attn1.to_q.lora_{part}.weight": torch.ones(192, 192) for part in "AB"},
            r"blocks\.8\.attn1\.to_q\.lora_A\.weight belongs to no linear layer of the model",
        ),
        ({"something.weight": torch.ones(2)}, "something.weight belongs to no linear layer"),
        ({"blocks.0.norm2.diff": torch.ones(2)}, "changes no layer of"),
        (
            {f"transformer_2.{name}": tensor for name, tensor in tensors().items()},
            "is for two experts; shapes has one transformer",
        ),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else "",
)
def test_tensors_that_do_not_fit_are_named(
    tmp_path: Path, values: dict[str, Any], match: str
) -> None:
    refused(tmp_path, values, match)


@pytest.mark.parametrize(
    ("config", "match"),
    [
        ({"use_dora": True}, "DoRA is not supported"),
        ({"peft_type": "LOHA"}, "'LOHA' is not supported"),
        ({"lora_alpha": "big"}, "lora_alpha is 'big'; an alpha is a finite number"),
        ({"alpha_pattern": [1]}, "alpha_pattern should map names of layers to numbers"),
        ({"alpha_pattern": {"to_k": True}}, "alpha_pattern is True"),
    ],
)
def test_configurations_of_peft_are_checked(
    tmp_path: Path, config: dict[str, Any], match: str
) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    refused(tmp_path, tensors(), match)


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def _huge_header(file: Path) -> None:
    file.write_bytes(struct.pack("<Q", MAX_HEADER_BYTES + 1) + b" " * (MAX_HEADER_BYTES + 2))


def _overlap(file: Path) -> None:
    edit_header(file, data_offsets=[0, 4])


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (_cut, "is cut short or damaged"),
        (_huge_header, "has a safetensors header of"),
        (_overlap, "broken safetensors header"),
        (to_pipe, "is not a regular file"),
        (Path.unlink, "is missing"),
    ],
)
def test_damaged_and_hostile_files_are_refused(
    tmp_path: Path, damage: Callable[[Path], Any], match: str
) -> None:
    opened(tmp_path)
    damage(tmp_path / "lora.safetensors")
    with pytest.raises(CheckpointError, match=match):
        open_adapter(tmp_path / "lora.safetensors", CHECKPOINT)


@pytest.mark.parametrize("as_folder", [False, True])
def test_pickles_are_not_loaded(tmp_path: Path, as_folder: bool) -> None:
    file = tmp_path / "adapter_model.bin"
    file.write_bytes(b"anything")
    with pytest.raises(
        CheckpointError, match=r"adapter_model\.bin is a pickle, which is not loaded"
    ):
        open_adapter(tmp_path if as_folder else file, CHECKPOINT)


@pytest.mark.parametrize("name", ["nothing", "nothing.safetensors"])
def test_a_path_that_does_not_exist_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match=rf"{name} is missing; a LoRA is a safetensors file"):
        open_adapter(tmp_path / name, CHECKPOINT)


def test_a_folder_of_several_files_is_refused(tmp_path: Path) -> None:
    opened(tmp_path)
    (tmp_path / "other.safetensors").write_bytes((tmp_path / "lora.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match="holds 2 safetensors files; a LoRA is one"):
        open_adapter(tmp_path, CHECKPOINT)


def test_a_folder_of_loras_names_files_and_folders(tmp_path: Path) -> None:
    opened(tmp_path)
    for inner in ("style", "experts/transformer", "empty", ".hidden"):
        (tmp_path / inner).mkdir(parents=True)
    for place in ("style", "experts/transformer", ".hidden"):
        (tmp_path / place / "any.safetensors").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("-")
    assert loras_in(tmp_path) == {
        "experts": tmp_path / "experts",
        "lora": tmp_path / "lora.safetensors",
        "style": tmp_path / "style",
    }


def test_links_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    inside, outside = tmp_path / "loras", tmp_path / "outside.safetensors"
    inside.mkdir()
    outside.write_bytes(b"")
    (inside / "a.safetensors").symlink_to(outside)
    with pytest.raises(CheckpointError, match=r"is a link to .*outside\.safetensors"):
        loras_in(inside)
    (inside / "a.safetensors").unlink()
    (inside / "b").mkdir()
    (inside / "b" / "a.safetensors").symlink_to(outside)
    with pytest.raises(CheckpointError, match=r"is a link to .*outside\.safetensors"):
        open_adapter(loras_in(inside)["b"], CHECKPOINT)


@pytest.mark.parametrize(
    ("names", "match"),
    [
        (["my lora.safetensors"], "'my lora.safetensors' cannot be a LoRA's name"),
        ([".safetensors.safetensors/x.safetensors"], None),
        (["a.safetensors", "a/x.safetensors"], "have one name; rename one"),
    ],
)
def test_names_that_requests_cannot_use_are_refused(
    tmp_path: Path, names: list[str], match: str | None
) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    if match is None:
        assert loras_in(tmp_path) == {}
        return
    with pytest.raises(InputError, match=match):
        loras_in(tmp_path)


def test_the_folder_of_loras_must_exist(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a folder"):
        loras_in(tmp_path / "nothing")


def test_each_expert_gets_its_own_file(build_family: Callable[[str], Path], tmp_path: Path) -> None:
    checkpoint = Checkpoint.open(build_family("wan2.2-t2v"))
    layer = "blocks.0.attn1.to_k"

    def write(place: str, *prefixes: str) -> None:
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        save_file(
            {
                f"{prefix}{layer}.lora_{part}.weight": torch.ones(shape)
                for prefix in prefixes or ("",)
                for part, shape in (("A", (2, 32)), ("B", (32, 2)))
            },
            tmp_path / place,
        )

    write("folders/transformer/x.safetensors", "transformer.")
    write("folders/transformer_2/x.safetensors", "transformer.")
    write("pair/wan_HIGH.safetensors")
    write("pair/wan_low.safetensors")
    write("both.safetensors", "transformer.")
    write("one_high_noise.safetensors")
    write("two-lownoise.safetensors")
    write("prefixes.safetensors", "transformer.", "transformer_2.")
    write("second/transformer_2/x.safetensors")
    found = {
        name: tuple(map(len, open_adapter(tmp_path / name, checkpoint).patches))
        for name in (
            "folders", "pair", "both.safetensors", "one_high_noise.safetensors",
            "two-lownoise.safetensors", "prefixes.safetensors", "second",
        )
    }  # fmt: skip
    assert list(found.values()) == [(1, 1), (1, 1), (1, 1), (1, 0), (0, 1), (1, 1), (0, 1)]
    pair = open_adapter(tmp_path / "pair", checkpoint).patches
    assert [patch.file.name for (patch,) in pair] == ["wan_HIGH.safetensors", "wan_low.safetensors"]
    with pytest.raises(CheckpointError, match="is for two experts"):
        open_adapter(tmp_path / "pair", CHECKPOINT)
