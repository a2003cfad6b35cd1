"""What is stored is held against the classes it is to be loaded as, before anything is loaded,
exported or served.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.soundness import check, require_sound
from pipeline.checkpoint.folder import Checkpoint
from pipeline.errors import CheckpointError
from tests.checkpoints.wan import distil
from tests.conftest import ROOT, SHAPES
from tests.hostile_checkpoints import (
    TRANSFORMER,
    add_tensor,
    edit,
    keep_tensors,
    read_tensors,
    write_tensors,
)

pytestmark = pytest.mark.export

VAE = "vae/diffusion_pytorch_model.safetensors"
ENCODER = "text_encoder/model.safetensors"
GATE = "blocks.0.to_gate_compress.weight"
Change = Callable[[Path], object]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SHAPES, tmp_path / "model"))


def test_each_family_is_sound(family_checkpoint: Path) -> None:
    check(Checkpoint.open(family_checkpoint))


def test_a_distilled_family_may_carry_the_weights_of_sparse_attention(
    plain_checkpoint: Path, tmp_path: Path
) -> None:
    fast = distil(plain_checkpoint, tmp_path / "fast")
    shard = min((fast / "transformer").glob("*.safetensors"))
    add_tensor(shard, GATE, "F32", [1], bytes(4))
    index = shard.with_name("diffusion_pytorch_model.safetensors.index.json")
    edit(index, weight_map=json.loads(index.read_text())["weight_map"] | {GATE: shard.name})
    check(Checkpoint.open(fast))
    edit(fast / "model_index.json", _class_name="WanPipeline")
    with pytest.raises(
        CheckpointError, match=rf"WanTransformer3DModel with this config\.json has no {GATE}"
    ):
        check(Checkpoint.open(fast))


def renamed(file: str, rename: Callable[[str], str]) -> Change:
    return lambda folder: keep_tensors(folder / file, lambda name: True, rename)


def lacking(file: str, name: str) -> Change:
    return lambda folder: keep_tensors(folder / file, lambda found: found != name)


def fewer_layers(folder: Path) -> None:
    edit(folder / "text_encoder/config.json", num_layers=1)


def of_bytes(folder: Path) -> None:
    """A weight as bytes of the same number as its values."""
    header, data = read_tensors(folder / TRANSFORMER)
    entry = header["blocks.0.ffn.net.2.bias"]
    block = data[slice(*entry["data_offsets"])]
    keep_tensors(folder / TRANSFORMER, lambda name: name != "blocks.0.ffn.net.2.bias")
    add_tensor(
        folder / TRANSFORMER,
        "blocks.0.ffn.net.2.bias",
        "U8",
        entry["shape"],
        block[: entry["shape"][0]],
    )


def add(name: str) -> Change:
    return lambda folder: add_tensor(folder / TRANSFORMER, name, "F32", [1], bytes(4))


FAULTS: list[tuple[str, Change, str]] = [
    (
        "a tensor of the transformer",
        lacking(TRANSFORMER, "blocks.3.ffn.net.2.weight"),
        r"transformer: WanTransformer3DModel needs blocks\.3\.ffn\.net\.2\.weight, "
        r"which no file holds$",
    ),
    (
        "a tensor of the VAE",
        lacking(VAE, "post_quant_conv.bias"),
        r"vae: AutoencoderKLWan needs post_quant_conv\.bias, which",
    ),
    (
        "a tensor of the text encoder",
        lacking(ENCODER, "encoder.final_layer_norm.weight"),
        r"text_encoder: UMT5EncoderModel needs encoder\.final_layer_norm\.weight, which",
    ),
    (
        "more layers than the config",
        fewer_layers,
        r"text_encoder/model\.safetensors: UMT5EncoderModel .* "
        r"has no encoder\.block\.1\..* and \d+ more$",
    ),
    (
        "another shape",
        lambda f: edit(f / "transformer/config.json", ffn_dim=64),
        r"has the shape \[768, 192\], not \[64, 192\] as in config",
    ),
    (
        "a type that is not of floats",
        of_bytes,
        r"blocks\.0\.ffn\.net\.2\.bias is of type U8, not of a floating-point type",
    ),
    (
        "the authors' own names",
        renamed(TRANSFORMER, lambda n: n.replace("attn1.to_q", "self_attn.q")),
        r"needs blocks\.0\.attn1.*own layout; "
        r"convert it with diffusers' scripts/convert_wan_to_diffusers\.py",
    ),
    (
        "the names of ComfyUI",
        renamed(TRANSFORMER, lambda n: f"model.diffusion_model.{n}"),
        r"the names are ComfyUI's; convert",
    ),
    (
        "a LoRA",
        renamed(TRANSFORMER, lambda n: n.replace(".weight", ".lora_A.weight")),
        r"the file is a LoRA, which is not",
    ),
    (
        "scales beside fp8 that was widened",
        add("blocks.0.ffn.net.2.scale_weight"),
        r"has no .*scale_weight: .*scaled fp8",
    ),
    (
        "blocks of bitsandbytes",
        add("blocks.0.ffn.net.2.weight.absmax"),
        r"has no .*absmax: the weights are quantised",
    ),
    (
        "a wrapper for training",
        renamed(TRANSFORMER, lambda n: f"module.{n}"),
        r"written by a wrapper for training",
    ),
    (
        "weights of sparse attention",
        add(GATE),
        r"WanTransformer3DModel .* has no blocks\.0\.to_gate_compress\.weight$",
    ),
]


@pytest.mark.parametrize(
    ("change", "message"), [row[1:] for row in FAULTS], ids=[row[0] for row in FAULTS]
)
def test_weights_that_do_not_fit_are_named(folder: Path, change: Change, message: str) -> None:
    change(folder)
    with pytest.raises(CheckpointError, match=message):
        check(Checkpoint.open(folder))


def tokenizer(**values: Any) -> Change:
    return lambda folder: edit(folder / "tokenizer/tokenizer.json", **values)


def shrink(folder: Path) -> None:
    """Cut the text encoder's embedding to the 100 rows of its config."""
    header, data = read_tensors(folder / ENCODER)
    name = next(name for name in header if "embed" in name or "shared" in name)
    entry = header[name]
    block = data[slice(*entry["data_offsets"])]
    rows, width = entry["shape"]
    keep_tensors(folder / ENCODER, lambda found: found != name)
    add_tensor(
        folder / ENCODER, name, entry["dtype"], [100, width], block[: len(block) // rows * 100]
    )


def split_by(expression: str) -> dict[str, Any]:
    return {
        "type": "Split",
        "pattern": {"Regex": expression},
        "behavior": "Isolated",
        "invert": False,
    }


GROWING = {"type": "Replace", "pattern": {"String": "z"}, "content": "z" * 10}
TRIALS: list[tuple[str, Change, str]] = [
    (
        "no vocabulary",
        lambda f: (f / "tokenizer/tokenizer.json").unlink(),
        "tokenizer holds no vocabulary; it must have one of",
    ),
    (
        "half a tokenizer",
        lambda f: (f / "tokenizer/tokenizer.json").write_text('{"model": {'),
        "holds no tokenizer that can be loaded",
    ),
    (
        "another model's tokenizer",
        lambda f: edit(f / "text_encoder/config.json", vocab_size=100) or shrink(f),
        r"has the token 130; its text encoder has 100",
    ),
    (
        "a regular expression without an end",
        tokenizer(pre_tokenizer=split_by(r"(a+)+b")),
        "cannot encode a text: .*retry-limit",
    ),
    (
        "a text that grows",
        tokenizer(normalizer={"type": "Sequence", "normalizers": [GROWING] * 12}),
        "more than 64 times as long",
    ),
    (
        "a schedule of words",
        lambda f: edit(f / "scheduler/scheduler_config.json", solver_order="two"),
        "no schedule of 20 steps can be made",
    ),
    (
        "sigmas of two kinds",
        lambda f: edit(
            f / "scheduler/scheduler_config.json", use_karras_sigmas=True, use_beta_sigmas=True
        ),
        "no schedule of 20 steps",
    ),
    (
        "layers that are no number",
        lambda f: edit(f / "transformer/config.json", num_layers="7"),
        "no WanTransformer3DModel can be built by it",
    ),
]


@pytest.mark.parametrize(
    ("change", "message"), [row[1:] for row in TRIALS], ids=[row[0] for row in TRIALS]
)
def test_a_failing_trial_is_named(folder: Path, change: Change, message: str) -> None:
    change(folder)
    with pytest.raises(CheckpointError, match=message):
        check(Checkpoint.open(folder))


def test_an_image_processor_of_another_size_is_refused(
    build_family: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(build_family("wan2.1-i2v"), tmp_path / "model"))
    edit(folder / "image_processor/preprocessor_config.json", crop_size={"height": 16, "width": 16})
    with pytest.raises(
        CheckpointError, match=r"makes pixels \[3, 16, 16\]; the image encoder takes \[3, 20, 20\]"
    ):
        check(Checkpoint.open(folder))


def test_a_checkpoint_is_checked_once(folder: Path, tmp_path: Path) -> None:
    said: list[str] = []
    for _ in range(2):
        require_sound(Checkpoint.open(folder), tmp_path / "cache", said.append)
    assert said == ["checking the weights' names and shapes"]
    keep_tensors(folder / VAE, lambda name: name != "post_quant_conv.bias")
    with pytest.raises(CheckpointError, match="needs post_quant_conv"):
        require_sound(Checkpoint.open(folder), tmp_path / "cache", said.append)
    assert len(said) == 2


def test_the_check_has_a_time_limit(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"could not be checked within 0\.05 s"):
        require_sound(Checkpoint.open(folder), tmp_path / "cache", time_limit_s=0.05)


def test_the_check_has_a_memory_limit() -> None:
    code = "from export.child import bound_memory; bound_memory(1 << 28); bytearray(1 << 30)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stderr.rstrip().endswith("MemoryError")


def test_values_are_not_read(folder: Path) -> None:
    """Weights of NaN are found when they are used; here only names, shapes and types count."""
    header, data = read_tensors(folder / TRANSFORMER)
    write_tensors(folder / TRANSFORMER, header, bytes(np.full(len(data), 255, np.uint8)))
    check(Checkpoint.open(folder))
