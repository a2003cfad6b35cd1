"""Config files: what they may hold, and the errors of those that are wrong."""

from __future__ import annotations

import pytest

from tests.cli.params.loading import errors_of, params_of

SEED_EXAMPLE = """\
model_path: "FastVideo/FastHunyuan-diffusers"
prompt: "A beautiful woman in a red dress walking down a street"
output_path: "outputs/"
num_gpus: 2
sp_size: 2
tp_size: 1
num_frames: 45
height: 720
width: 1280
num_inference_steps: 6
seed: 1024
fps: 24
precision: "bf16"
vae_precision: "fp16"
vae_tiling: true
vae_sp: true
vae_config:
  load_encoder: false
  load_decoder: true
  tile_sample_min_height: 256
  tile_sample_min_width: 256
text_encoder_precisions:
  - "fp16"
  - "fp16"
mask_strategy_file_path: null
enable_torch_compile: false
"""


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"hight": 64}, "hight: unknown key in {path}, line 1; did you mean height?"),
        ({"num-frames": 17}, "num-frames: unknown key in {path}, line 1; did you mean num_frames?"),
        (
            {"sampling": {"height": 64}},
            "sampling: unknown key in {path}, line 1; there is no such mapping; "
            "move height to the top level",
        ),
        ({"zzz": 1}, "zzz: unknown key in {path}, line 1"),
        (
            {"height": "64"},
            "height: should be a whole number, not the text '64' (in {path}, line 1)",
        ),
        ({"height": 64.0}, "height: should be a whole number, not 64.0 (in {path}, line 1)"),
        ({"height": True}, "height: should be a whole number, not true (in {path}, line 1)"),
        ({"prompt": 7}, "prompt: should be text, not 7 (in {path}, line 1)"),
        ({"prompt": ["a"]}, "prompt: should be text, not a list (in {path}, line 1)"),
        (
            {"save_output": "yes"},
            "save_output: should be true or false, not the text 'yes' (in {path}, line 1)",
        ),
        (
            {"seed": 10**40},
            "seed: should be 9223372036854775807 or less, not a very long number "
            "(in {path}, line 1)",
        ),
    ],
)
def test_wrong_keys_and_types(config, content, expected):
    path = config({"prompt": "p", **content})
    assert errors_of({"config": str(path)}) == [expected.format(path=path)]


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("", "c.yaml", "is empty; it must map parameter names to values"),
        ("[1]", "c.json", "holds a list; it must map parameter names to values"),
        ("{", "c.json", "is not JSON: line 1"),
        ("a: [", "c.yaml", "is not YAML: line 1"),
        ('{"fps": 1, "fps": 2}', "c.json", "duplicate key 'fps'"),
        ('{"vae_config": {"a": 1, "a": 2}}', "c.json", "duplicate key 'a'"),
        ("fps: 1\nfps: 2\n", "c.yaml", "duplicate key 'fps'"),
        ("prompt: !!python/object/apply:os.system [ls]", "c.yaml", "is not YAML"),
        ("[" * 100_000, "c.json", "is not valid"),
        ("[" * 5_000, "c.yaml", "is not valid"),
        ('{"seed": ' + "9" * 5000 + "}", "c.json", "is not valid"),
        ("seed: 2024-99-99", "c.yaml", "is not valid"),
    ],
)
def test_broken_files(config, text, name, expected):
    path = config(text, name)
    (error,) = errors_of({"config": str(path)})
    assert error.startswith(f"config: {path} ")
    assert expected in error


def test_missing_file_and_folder(tmp_path):
    assert errors_of({"config": str(tmp_path / "no.json")}) == [
        f"config: {tmp_path / 'no.json'} cannot be read: No such file or directory"
    ]
    assert "Is a directory" in errors_of({"config": str(tmp_path)})[0]


def test_file_without_extension_is_parsed_by_content(config):
    assert params_of({"config": str(config('{"prompt":\t"p"}', "fd63"))}).sampling.prompt == "p"
    assert params_of({"config": str(config("prompt: p", "fd63"))}).sampling.prompt == "p"


def test_yaml_alias_bomb_is_refused(config):
    lines = ["a0: &a0 [x, x]"] + [
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)
    ]
    (error,) = errors_of({"config": str(config("\n".join(lines), "c.yaml")), "prompt": "x"})
    assert error.endswith(
        "line 2: an alias (*) is not allowed; put a value that begins with * in quotes"
    )


@pytest.mark.parametrize(
    "line", ["prompt: !SECRET x", "prompt: !!SECRET x", "prompt: *SECRET", "<<: *SECRET"]
)
def test_yaml_tag_or_alias_is_not_repeated_in_the_error(config, line):
    (error,) = errors_of({"config": str(config(line, "c.yaml")), "prompt": "x"})
    assert "in quotes" in error
    assert "SECRET" not in error


def test_endless_config_file_is_refused():
    (error,) = errors_of({"config": "/dev/zero", "prompt": "x"})
    assert error == "config: /dev/zero is too large; at most 1048576 bytes are allowed"


def test_seed_example_is_valid(config):
    stages = params_of({"config": str(config(SEED_EXAMPLE, "config.yaml"))}).stages
    assert (stages.precision, stages.vae_engine, stages.vae_precision) == (
        "bf16",
        "auto",
        "fp16",
    )
    assert stages.text_encoder_precisions == ("fp16", "fp16")
    assert stages.vae_tiling
    assert stages.vae_sp
    assert (
        stages.vae_config.tile_sample_min_height == stages.vae_config.tile_sample_min_width == 256
    )


def test_invalid_tile_sizes_are_reported_by_key(config):
    lines = [
        "prompt: p",
        "vae_config:",
        "  tile_sample_min_height: 0",
        "  tile_sample_min_witdh: 256",
    ]
    path = config("\n".join([*lines, "  load_decoder: false"]), "config.yaml")
    assert errors_of({"config": str(path)}) == [
        f"vae_config.tile_sample_min_witdh: unknown key in {path}, line 4; "
        "did you mean vae_config.tile_sample_min_width?",
        f"vae_config.load_decoder: should be true, not false (in {path}, line 5)",
        f"vae_config.tile_sample_min_height: should be 1 or more, not 0 (in {path}, line 3)",
    ]


def test_nested_key_may_be_dotted_at_the_top_level(config):
    path = config({"prompt": "p", "vae_config.tile_sample_min_height": 128})
    assert params_of({"config": str(path)}).stages.vae_config.tile_sample_min_height == 128
    path = config(
        "prompt: p\nvae_config.tile_sample_min_height: 1\n"
        "vae_config:\n  tile_sample_min_height: 2\n",
        "c.yaml",
    )
    assert errors_of({"config": str(path)}) == [
        f"vae_config.tile_sample_min_height: duplicate key (in {path}, line 4)"
    ]


def test_number_is_not_a_mapping(config):
    path = config({"prompt": "p", "vae_config": 5})
    assert errors_of({"config": str(path)}) == [
        f"vae_config: should be a mapping, not 5 (in {path}, line 1)"
    ]
