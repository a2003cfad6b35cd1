"""Hostile and faulty checkpoints: each row of `ATTACKS` is run by test_checkpoints.py."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from tests.conftest import SHAPES
from tests.hostile_checkpoints import (
    TRANSFORMER,
    add_tensor,
    edit,
    edit_header,
    read_tensors,
    to_link,
    to_pipe,
    write_tensors,
)

VAE, ENCODER, SCHEDULER = (
    "vae/config.json",
    "text_encoder/config.json",
    "scheduler/scheduler_config.json",
)
TOKENIZER = "tokenizer/tokenizer_config.json"
Hostile = Callable[[Path], object]


def deep(levels: int) -> str:
    return '{"a":' + "[" * levels + "]" * levels + "}"


def huge_zeros(file: Path) -> None:
    with file.open("wb") as opened:
        opened.truncate(1 << 30)


def header_of(length: int) -> Hostile:
    """A header that claims ``length`` bytes, in a file as large."""

    def make(folder: Path) -> None:
        with (folder / TRANSFORMER).open("wb") as opened:
            opened.write(length.to_bytes(8, "little"))
            opened.truncate(length + 8)

    return make


def doubled(folder: Path) -> None:
    """The first tensor once more, under the same name."""
    header, data = read_tensors(folder / TRANSFORMER)
    text = json.dumps(header)
    name, entry = next((name, entry) for name, entry in header.items() if name != "__metadata__")
    write_tensors(
        folder / TRANSFORMER, f"{text[:-1]}, {json.dumps(name)}: {json.dumps(entry)}}}", data
    )


def overlapping(folder: Path) -> None:
    """Two tensors of one shape that share their bytes."""
    header, data = read_tensors(folder / TRANSFORMER)
    names = [name for name in header if name.endswith("attn1.to_k.weight")]
    header[names[1]]["data_offsets"] = header[names[0]]["data_offsets"]
    write_tensors(folder / TRANSFORMER, header, data)


def index_beside(folder: Path, shard: str, **more: str) -> None:
    """The transformer as one shard, with an index that places all its tensors in ``shard``, and
    ``more``.
    """
    file = folder / TRANSFORMER
    header, _ = read_tensors(file)
    weight_map = {name: shard for name in header if name != "__metadata__"} | more
    file.rename(file.with_name("part-1.safetensors"))
    file.with_suffix(".safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def custom_code(folder: Path) -> None:
    """A tokenizer that names a class in a file beside it, which would leave a mark when it is
    imported.
    """
    (folder / "tokenizer/evil.py").write_text(
        f"open({str(folder / 'ran')!r}, 'w')\nclass Evil: pass\n"
    )
    edit(
        folder / TOKENIZER, auto_map={"AutoTokenizer": [None, "evil.Evil"]}, tokenizer_class="Evil"
    )


def tokenizer_of(**values: object) -> Hostile:
    return lambda folder: edit(folder / "tokenizer/tokenizer.json", **values)


ENDLESS = {"type": "Split", "pattern": {"Regex": "(a+)+b"}, "behavior": "Isolated", "invert": False}
GROWING = {"type": "Replace", "pattern": {"String": "z"}, "content": "z" * 10}
ATTACKS: list[tuple[str, str, Hostile, str]] = [
    # What is read
    (
        "config.json is a named pipe",
        "hung for ever",
        lambda f: to_pipe(f / VAE),
        "vae/config.json is not a regular",
    ),
    (
        "config.json links to /dev/zero",
        "read until memory ran out (4 GiB, 22 s)",
        lambda f: to_link(f / VAE, Path("/dev/zero")),
        "outside the checkpoint",
    ),
    (
        "config.json links to itself",
        "exit 3",
        lambda f: to_link(f / VAE, Path("config.json")),
        "Too many levels",
    ),
    (
        "config.json links out of the folder",
        "exit 0: read",
        lambda f: to_link(f / VAE, SHAPES / VAE),
        "outside the checkpoint",
    ),
    (
        "a component's folder links out",
        "exit 0: read",
        lambda f: (shutil.rmtree(f / "vae"), (f / "vae").symlink_to(SHAPES / "vae")),
        "outside the checkpoint",
    ),
    (
        "weights link out of the folder",
        "exit 0: read",
        lambda f: to_link(f / TRANSFORMER, SHAPES / TRANSFORMER),
        "outside the checkpoint",
    ),
    (
        "config.json of 1 GiB",
        "read whole, 14 s and more than 2 GiB",
        lambda f: huge_zeros(f / VAE),
        "vae/config.json has 1073741824 bytes",
    ),
    (
        "config.json nested 200,000 deep",
        "exit 1: unexpected error: RecursionError",
        lambda f: (f / VAE).write_text(deep(200_000)),
        "nested too deeply",
    ),
    (
        "a number of 5,000 digits",
        "exit 1: unexpected error: ValueError",
        lambda f: (f / VAE).write_text('{"z_dim": 1%s}' % ("0" * 5000)),
        "vae/config.json is not JSON",
    ),
    (
        "num_layers of a million million",
        "export never ended",
        lambda f: edit(f / ENCODER, num_layers=10**12),
        "num_layers is 1000000000000; at most 512",
    ),
    (
        "vocab_size of 10^15",
        "refused in the middle of the export",
        lambda f: edit(f / ENCODER, vocab_size=10**15),
        "vocab_size is 1000000000000000; at most",
    ),
    (
        "eps is NaN",
        "exit 0",
        lambda f: edit(f / "transformer/config.json", eps=float("nan")),
        "eps is nan; it must be",
    ),
    (
        "num_layers is a list",
        "exit 0; failed when it was served",
        lambda f: edit(f / "transformer/config.json", num_layers=[7]),
        "no WanTransformer3DModel can be built",
    ),
    # safetensors
    (
        "a safetensors header of 1 GiB",
        "exit 3",
        header_of(1 << 30),
        "header of 1073741824 bytes; at most",
    ),
    (
        "a safetensors header of 90 MiB",
        "read whole",
        header_of(90 << 20),
        "header of 94371840 bytes; at most",
    ),
    (
        "a safetensors header nested 200,000 deep",
        "exit 1: unexpected error: RecursionError",
        lambda f: write_tensors(f / TRANSFORMER, deep(200_000), b""),
        "broken safetensors header",
    ),
    (
        "negative offsets",
        "exit 0",
        lambda f: edit_header(f / TRANSFORMER, data_offsets=[-8, 0]),
        "should be whole numbers",
    ),
    ("two tensors of the same bytes", "exit 0", overlapping, "overlap or leave gaps"),
    ("a name that occurs twice", "exit 0", doubled, "occurs twice"),
    (
        "a shape its bytes do not fit",
        "exit 0",
        lambda f: edit_header(f / TRANSFORMER, shape=[3, 5, 7]),
        "bytes, which is not BF16",
    ),
    (
        "a tensor's name that steers a terminal",
        "exit 0",
        lambda f: add_tensor(f / TRANSFORMER, "\x1b]0;owned\x07", "F32", [1], bytes(4)),
        "is not a name of a tensor",
    ),
    (
        "a key that steers a terminal",
        "exit 3: printed as it is",
        lambda f: edit(f / "triton_video.json", **{"\x1b[2J": 1}),
        "\\x1b[2J: Extra inputs are not permitted",
    ),
    (
        "a file's name that steers a terminal",
        "exit 0",
        lambda f: os.mkfifo(f / "vae/\x1b[2J.json"),
        "vae/\\x1b[2J.json is not a regular file",
    ),
    (
        "a chat template is a named pipe",
        "exit 0: ignored",
        lambda f: os.mkfifo(f / "tokenizer/chat_template.jinja"),
        "chat_template.jinja is not a regular file",
    ),
    (
        "config.json is another class's",
        "not noticed by the export",
        lambda f: edit(f / VAE, _class_name="AutoencoderKLHunyuanVideo"),
        "_class_name is 'AutoencoderKLHunyuanVideo', but model_index.json says 'AutoencoderKLWan'",
    ),
    # Indexes
    (
        "an index names a file in another folder",
        "exit 3",
        lambda f: index_beside(f, "../vae/diffusion_pytorch_model.safetensors"),
        "in the same folder",
    ),
    (
        "an index names an absolute path",
        "exit 3",
        lambda f: index_beside(f, "/etc/passwd.safetensors"),
        "in the same folder",
    ),
    (
        "an index names a tensor its shard lacks",
        "exit 0",
        lambda f: index_beside(f, "part-1.safetensors", more="part-1.safetensors"),
        "'more' is not in part-1.safetensors",
    ),
    # Code
    (
        "auto_map names code beside the tokenizer",
        "refused in the middle of the export, which asked to trust it",
        custom_code,
        "auto_map names Python code",
    ),
    (
        "attn_implementation names code on the hub",
        "code of the hub, where the package kernels is installed",
        lambda f: edit(f / ENCODER, _attn_implementation="evil/kernel"),
        "_attn_implementation is 'evil/kernel'",
    ),
    (
        "transformers_weights names another file",
        "exit 0; one file checked, another loaded",
        lambda f: edit(f / ENCODER, transformers_weights="other.safetensors"),
        "names another file of weights",
    ),
    (
        "adapter_config.json beside the weights",
        "exit 0; another model loaded, where peft is installed",
        lambda f: (f / "text_encoder/adapter_config.json").write_text("{}"),
        "says that the folder holds a LoRA",
    ),
    (
        "tokenizer_class of another library",
        "TypeError in the middle of the export",
        lambda f: edit(f / TOKENIZER, tokenizer_class="BertJapaneseTokenizer"),
        "tokenizer_class is 'BertJapaneseTokenizer'",
    ),
    (
        "vocab_file in another folder",
        "exit 0: ignored",
        lambda f: edit(f / TOKENIZER, vocab_file="/etc/passwd"),
        "vocab_file is '/etc/passwd'",
    ),
    # What no request could use
    (
        "quantised weights",
        "exit 0; failed when it was served",
        lambda f: edit(
            f / "transformer/config.json", quantization_config={"quant_method": "bitsandbytes"}
        ),
        "weights are quantised",
    ),
    (
        "use_dynamic_shifting",
        "exit 0; every request failed",
        lambda f: edit(f / SCHEDULER, use_dynamic_shifting=True),
        "use_dynamic_shifting is on",
    ),
    (
        "use_flow_sigmas off",
        "exit 0; every request failed",
        lambda f: edit(f / SCHEDULER, use_flow_sigmas=False),
        "use_flow_sigmas is off",
    ),
    (
        "prediction_type epsilon",
        "exit 0; videos of noise",
        lambda f: edit(f / SCHEDULER, prediction_type="epsilon"),
        "prediction_type is 'epsilon'",
    ),
    (
        "num_train_timesteps of 10^11",
        "exit 0; each request asked for 800 GB",
        lambda f: edit(f / SCHEDULER, num_train_timesteps=10**11),
        "num_train_timesteps is",
    ),
    # Tokenizers
    (
        "a tokenizer whose regular expression never ends",
        "exit 0; an exception of Rust in the stage, on request",
        tokenizer_of(pre_tokenizer=ENDLESS),
        "tokenizer cannot encode a text",
    ),
    (
        "a tokenizer that makes 10^12 letters of one",
        "exit 0; a request with that letter takes a terabyte",
        tokenizer_of(normalizer={"type": "Sequence", "normalizers": [GROWING] * 12}),
        "makes a text more than 64 times as long",
    ),
    (
        "a tokenizer without a vocabulary",
        "exit 0; all words were unknown to it",
        lambda f: (
            (f / "tokenizer/tokenizer.json").unlink(),
            edit(f / TOKENIZER, tokenizer_class="T5Tokenizer"),
        ),
        "holds no vocabulary",
    ),
]
"""What it is, what it did before, how a folder is changed to it, and what the error says now."""
