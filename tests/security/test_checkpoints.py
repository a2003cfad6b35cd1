"""Hostile and faulty checkpoints against the real command line: refused at once, with exit code 3 and one line."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import ROOT, SHAPES
from tests.hostile_checkpoints import (
    TRANSFORMER,
    add_tensor,
    edit,
    edit_header,
    keep_tensors,
    read_tensors,
    to_link,
    to_pipe,
    to_scaled_fp8,
    write_tensors,
)

VAE, ENCODER, SCHEDULER = "vae/config.json", "text_encoder/config.json", "scheduler/scheduler_config.json"
TOKENIZER = "tokenizer/tokenizer_config.json"
MEMORY_BYTES = 4 << 30
ENOUGH_S = 60
After = Callable[[str], None]
Hostile = Callable[[Path], object]


@dataclass
class Ended:
    """``code`` is None where the command had to be killed; ``error`` is the last line of standard error."""

    code: int | None
    error: str

    def __str__(self) -> str:
        return f"exit {self.code}: {self.error}" if self.code is not None else f"nothing for {ENOUGH_S} s"


def command(*words: object, cache: Path, **environment: str) -> Ended:
    """Run ``triton-video``, in bounded memory."""
    variables = {**os.environ, "TRITON_VIDEO_CACHE": str(cache), "HF_HUB_OFFLINE": "1", **environment}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "cli", *map(str, words)],
            cwd=ROOT,
            env=variables,
            capture_output=True,
            text=True,
            timeout=ENOUGH_S,
            stdin=subprocess.DEVNULL,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES)),
        )
    except subprocess.TimeoutExpired:
        return Ended(None, "")
    lines = (done.stderr or done.stdout).strip().splitlines()
    return Ended(done.returncode, lines[-1].removeprefix("triton-video: ") if lines else "")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SHAPES, tmp_path / "model"))


@pytest.fixture
def export(folder: Path, tmp_path: Path) -> Callable[[], Ended]:
    """Exports the folder of the test. It is named as a user would, and errors are shown without its path."""

    def run() -> Ended:
        ended = command("export", "--model-path", folder, "--output", tmp_path / "out", cache=tmp_path / "cache")
        return Ended(ended.code, ended.error.replace(f"{folder}/", "").replace(str(tmp_path), "..."))

    return run


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
    write_tensors(folder / TRANSFORMER, f"{text[:-1]}, {json.dumps(name)}: {json.dumps(entry)}}}", data)


def overlapping(folder: Path) -> None:
    """Two tensors of one shape that share their bytes."""
    header, data = read_tensors(folder / TRANSFORMER)
    names = [name for name in header if name.endswith("attn1.to_k.weight")]
    header[names[1]]["data_offsets"] = header[names[0]]["data_offsets"]
    write_tensors(folder / TRANSFORMER, header, data)


def index_beside(folder: Path, shard: str, **more: str) -> None:
    """The transformer as one shard, with an index that places all its tensors in ``shard``, and ``more``."""
    file = folder / TRANSFORMER
    header, _ = read_tensors(file)
    weight_map = {name: shard for name in header if name != "__metadata__"} | more
    file.rename(file.with_name("part-1.safetensors"))
    file.with_suffix(".safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def custom_code(folder: Path) -> None:
    """A tokenizer that names a class in a file beside it, which would leave a mark when it is imported."""
    (folder / "tokenizer/evil.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\nclass Evil: pass\n")
    edit(folder / TOKENIZER, auto_map={"AutoTokenizer": [None, "evil.Evil"]}, tokenizer_class="Evil")


ATTACKS: list[tuple[str, str, Hostile, str]] = [
    # What is read
    ("config.json is a named pipe", "hung for ever", lambda f: to_pipe(f / VAE), "vae/config.json is not a regular"),
    (
        "config.json links to /dev/zero",
        "read until memory ran out (4 GiB, 22 s)",
        lambda f: to_link(f / VAE, Path("/dev/zero")),
        "outside the checkpoint",
    ),
    ("config.json links to itself", "exit 3", lambda f: to_link(f / VAE, Path("config.json")), "Too many levels"),
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
    ("eps is NaN", "exit 0", lambda f: edit(f / "transformer/config.json", eps=float("nan")), "eps is nan; it must be"),
    (
        "num_layers is a list",
        "exit 0; failed when it was served",
        lambda f: edit(f / "transformer/config.json", num_layers=[7]),
        "no WanTransformer3DModel can be built",
    ),
    # safetensors
    ("a safetensors header of 1 GiB", "exit 3", header_of(1 << 30), "header of 1073741824 bytes; at most"),
    ("a safetensors header of 90 MiB", "read whole", header_of(90 << 20), "header of 94371840 bytes; at most"),
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
        lambda f: edit(f / "transformer/config.json", quantization_config={"quant_method": "bitsandbytes"}),
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
]


def _named(what: str, before: str, hostile: Hostile, now: str):
    return pytest.param(hostile, now, id=what, marks=pytest.mark.attack(what, before))


@pytest.mark.parametrize(("hostile", "now"), [_named(*row) for row in ATTACKS])
def test_a_hostile_checkpoint_is_refused(
    folder: Path, export: Callable[[], Ended], hostile: Hostile, now: str, after: After
) -> None:
    hostile(folder)
    ended = export()
    assert ended.code == 3, ended
    assert now in ended.error
    assert ended.error.isprintable()
    assert not (folder / "ran").exists()
    after(str(ended))


@pytest.mark.attack("model_index.json names foreign modules", "never imported")
def test_modules_in_the_index_are_never_imported(folder: Path, tmp_path: Path, after: After) -> None:
    (tmp_path / "evil_module.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    index = json.loads((folder / "model_index.json").read_text())
    edit(
        folder / "model_index.json",
        **{name: ["evil_module", entry[1]] for name, entry in index.items() if isinstance(entry, list) and entry[1]},
        safety=["os", "system"],
    )
    words = ("export", "--model-path", folder, "--output", tmp_path / "out", "--dry-run")
    ended = command(*words, cache=tmp_path / "cache", PYTHONPATH=str(tmp_path))
    assert ended.code == 0, ended
    assert not (tmp_path / "ran").exists()
    after("never imported: a component's class is one that its family knows")


@pytest.mark.attack("a named pipe in the hub's cache, then `models`", "hung for ever")
def test_models_does_not_wait_for_a_pipe(folder: Path, tmp_path: Path, after: After) -> None:
    snapshot = tmp_path / "hub/models--acme--pipe/snapshots/1"
    shutil.copytree(folder, snapshot)
    to_pipe(snapshot / "model_index.json")
    ended = command("models", cache=tmp_path / "cache", HF_HUB_CACHE=str(tmp_path / "hub"))
    assert ended.code == 0, ended
    assert "model_index.json is not a regular file" in ended.error
    after("listed as not usable: not a regular file")


@pytest.mark.attack("a transformer that lacks one tensor", "exit 0; another video each time for the same seed")
@pytest.mark.parametrize(
    "words",
    [
        ("generate", "--prompt", "a red circle", "--output-path", "."),
        ("serve", "--port", "0", "--data-path", "."),
        ("triton",),
    ],
)
def test_no_command_starts_with_a_tensor_missing(
    folder: Path, tmp_path: Path, words: tuple[str, ...], after: After
) -> None:
    keep_tensors(folder / TRANSFORMER, lambda name: name != "blocks.3.ffn.net.2.weight")
    words = tuple(str(tmp_path / "out") if word == "." else word for word in words)
    ended = command(*words, "--model-path", folder, cache=tmp_path / "cache")
    assert ended.code == 3, ended
    assert "needs blocks.3.ffn.net.2.weight, which no file holds" in ended.error
    after(f"{words[0]}: exit 3: transformer needs blocks.3.ffn.net.2.weight, which no file holds")


@pytest.mark.attack("scaled fp8 without quantization_config", "exit 0; a video of garbage")
def test_scaled_fp8_is_refused(folder: Path, export: Callable[[], Ended], after: After) -> None:
    to_scaled_fp8(folder / TRANSFORMER)
    ended = export()
    assert ended.code == 3
    assert "is of type F8_E4M3" in ended.error
    after(str(ended))
