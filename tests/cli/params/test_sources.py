"""Where values come from, and what is said when one is wrong."""

from __future__ import annotations

import json

import pytest

from cli.main import run
from cli.params.sources import check, gather
from pipeline.errors import InputError

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


@pytest.fixture
def config(tmp_path):
    """Writes a config file: text as it is, anything else as JSON."""

    def write(content, name="config.json"):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


def errors_of(flags, environment=None):
    with pytest.raises(InputError) as caught:
        check(gather(flags, environment or {}))
    return [str(error) for error in getattr(caught.value, "errors", [caught.value])]


def test_command_line_over_environment_over_file_over_default(config):
    path = config({"prompt": "file", "height": 64, "width": 64, "fps": 8})
    environment = {
        "TRITON_VIDEO_HEIGHT": "80",
        "TRITON_VIDEO_WIDTH": "80",
        "TRITON_VIDEO_CONFIG": str(path),
    }
    params = check(gather({"height": "96"}, environment))
    assert params.sampling.prompt == "file"
    assert (params.sampling.height, params.sampling.width, params.sampling.fps) == (96, 80, 8)
    assert params.sampling.seed is None


def test_switches_from_every_source(config):
    path = config({"prompt": "p", "save_output": False, "return_frames": True})
    assert check(gather({"config": str(path)}, {})).output.save_output is False
    given = gather(
        {"config": str(path), "save_output": True}, {"TRITON_VIDEO_RETURN_FRAMES": "false"}
    )
    assert (check(given).output.save_output, check(given).output.return_frames) == (True, False)


def test_an_empty_variable_is_not_given():
    assert check(gather({"prompt": "p"}, {"TRITON_VIDEO_HEIGHT": ""})).sampling.height is None


def test_null_is_not_given(config):
    path = config({"prompt": "p", "height": None, "vae_precision": None, "save_output": None})
    assert check(gather({"config": str(path)}, {})).output.save_output is True


def test_json_is_a_key_like_any_other(config):
    assert (
        check(gather({"config": str(config({"prompt": "p", "json": True}))}, {})).report.as_json
        is True
    )


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"hight": 64}, "hight: unknown key in {path}, line 1; did you mean height?"),
        ({"num-frames": 17}, "num-frames: unknown key in {path}, line 1; did you mean num_frames?"),
        (
            {"sampling": {"height": 64}},
            "sampling: unknown key in {path}, line 1; there is no such mapping, so height belongs at the top",
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
            "seed: should be 9223372036854775807 or less, not a very long number (in {path}, line 1)",
        ),
    ],
)
def test_wrong_keys_and_types(config, content, expected):
    path = config({"prompt": "p", **content})
    assert errors_of({"config": str(path)}) == [expected.format(path=path)]


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("", "c.yaml", "is empty; it should map parameter names to values"),
        ("[1]", "c.json", "holds a list; it should map parameter names to values"),
        ("{", "c.json", "is not JSON: line 1"),
        ("a: [", "c.yaml", "is not YAML: line 1"),
        ('{"fps": 1, "fps": 2}', "c.json", "the key 'fps' is there twice"),
        ('{"vae_config": {"a": 1, "a": 2}}', "c.json", "the key 'a' is there twice"),
        ("fps: 1\nfps: 2\n", "c.yaml", "the key 'fps' is there twice"),
        ("prompt: !!python/object/apply:os.system [ls]", "c.yaml", "is not YAML"),
        ("[" * 100_000, "c.json", "cannot be understood"),
        ("[" * 5_000, "c.yaml", "cannot be understood"),
        ('{"seed": ' + "9" * 5000 + "}", "c.json", "cannot be understood"),
        ("seed: 2024-99-99", "c.yaml", "cannot be understood"),
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


def test_a_file_without_a_telling_name_is_judged_by_content(config):
    assert (
        check(gather({"config": str(config('{"prompt":\t"p"}', "fd63"))}, {})).sampling.prompt
        == "p"
    )
    assert check(gather({"config": str(config("prompt: p", "fd63"))}, {})).sampling.prompt == "p"


def test_a_bomb_of_aliases_is_refused(config):
    lines = ["a0: &a0 [x, x]"] + [
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)
    ]
    (error,) = errors_of({"config": str(config("\n".join(lines), "c.yaml")), "prompt": "x"})
    assert error.endswith(
        "line 2: an alias (*) is not taken; put a value that begins with * in quotes"
    )


@pytest.mark.parametrize(
    "line", ["prompt: !SECRET x", "prompt: !!SECRET x", "prompt: *SECRET", "<<: *SECRET"]
)
def test_a_value_that_yaml_reads_otherwise_is_not_repeated(config, line):
    (error,) = errors_of({"config": str(config(line, "c.yaml")), "prompt": "x"})
    assert "in quotes" in error
    assert "SECRET" not in error


def test_a_config_file_without_an_end_is_refused():
    (error,) = errors_of({"config": "/dev/zero", "prompt": "x"})
    assert error == "config: /dev/zero is too large; a config file has up to 1048576 bytes"


def test_all_errors_at_once_with_their_places(config):
    path = config({"fps": 0})
    flags = {
        "config": str(path),
        "height": "abc",
        "precision": "fp23",
        "output_file_name": "a/b",
        "threads": "1.5",
    }
    assert errors_of(flags, {"TRITON_VIDEO_WIDTH": "0", "TRITON_VIDEO_SAVE_OUTPUT": "perhaps"}) == [
        "prompt: is needed: give --prompt, or prompt in a config file",
        "height: should be a whole number, not abc",
        "width: should be 1 or more, not 0 (from TRITON_VIDEO_WIDTH)",
        f"fps: should be 1 or more, not 0 (in {path}, line 1)",
        "precision: should be auto, fp32 or bf16, not fp23; did you mean fp32?",
        "threads: should be a whole number, not 1.5",
        "output_file_name: should be a name without folders; the folder is --output-path",
        "save_output: should be true or false, not perhaps (from TRITON_VIDEO_SAVE_OUTPUT)",
    ]


def test_the_example_of_the_seed_is_understood(config):
    server = check(gather({"config": str(config(SEED_EXAMPLE, "config.yaml"))}, {})).server
    assert (server.precision, server.vae_engine, server.vae_precision) == (
        "bf16",
        "chunked",
        "fp16",
    )
    assert server.text_encoder_precisions == ("fp16", "fp16")
    assert server.vae_tiling
    assert server.vae_sp
    assert (
        server.vae_config.tile_sample_min_height == server.vae_config.tile_sample_min_width == 256
    )


def test_wrong_sizes_of_tiles_are_named_with_their_key(config):
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


def test_the_keys_of_a_mapping_from_every_source(config):
    path = config(
        {"prompt": "p", "vae_config": {"load_encoder": False, "tile_sample_min_height": 1}}
    )
    names = ("tile_sample_min_width", "tile_sample_stride_height")
    environment = {f"TRITON_VIDEO_VAE_CONFIG_{name.upper()}": "64" for name in names}
    environment["TRITON_VIDEO_VAE_CONFIG_LOAD_DECODER"] = "true"
    flags = {"config": str(path), "vae_config.tile_sample_min_height": "128"}
    vae = check(gather(flags, environment)).server.vae_config
    assert (
        vae.tile_sample_min_height,
        vae.tile_sample_min_width,
        vae.tile_sample_stride_height,
    ) == (128, 64, 64)


def test_a_key_of_a_mapping_may_stand_at_the_top(config):
    path = config({"prompt": "p", "vae_config.tile_sample_min_height": 128})
    assert check(gather({"config": str(path)}, {})).server.vae_config.tile_sample_min_height == 128
    path = config(
        "prompt: p\nvae_config.tile_sample_min_height: 1\nvae_config:\n  tile_sample_min_height: 2\n",
        "c.yaml",
    )
    assert errors_of({"config": str(path)}) == [
        f"vae_config.tile_sample_min_height: is there twice (in {path}, line 4)"
    ]


def test_a_mapping_is_no_number(config):
    path = config({"prompt": "p", "vae_config": 5})
    assert errors_of({"config": str(path)}) == [
        f"vae_config: should be a mapping, not 5 (in {path}, line 1)"
    ]


def test_dotted_flags(call, backend):
    assert call("--vae-config.tile-sample-min-height", "128", "--vae-config.load-decoder").code == 0
    assert backend.settings.vae_config.tile_sample_min_height == 128
    assert call("--vae-config.tile-sample-min-hight=1").errors == [
        "no such option --vae-config.tile-sample-min-hight; did you mean --vae-config.tile-sample-min-height?"
    ]
    assert call("--vae-config.tile-sample-min-height=0").errors == [
        "vae_config.tile_sample_min_height: should be 1 or more, not 0"
    ]


def test_command_line_environment_and_file_are_judged_together(call, config, backend, monkeypatch):
    path = config('{\n  "hieght": 64,\n  "fps": "fast",\n  "seed": -1\n}')
    monkeypatch.setenv("TRITON_VIDEO_WIDTH", "wide")
    arguments = (
        "--config",
        path,
        "--num-frmes",
        5,
        "--save-output=1",
        "--precision",
        "fp8",
        "cat",
        "--threads",
    )
    done = call(*arguments, prompt=None)
    assert (done.code, backend.log) == (2, [])
    assert done.errors == [
        "no such option --num-frmes; did you mean --num-frames?",
        "option '--save-output' does not take a value",
        "option '--threads' requires an argument",
        "got unexpected extra argument (cat); put quotes around a value that holds spaces",
        f"hieght: unknown key in {path}, line 2; did you mean height?",
        f"fps: should be a whole number, not the text 'fast' (in {path}, line 3)",
        "prompt: is needed: give --prompt, or prompt in a config file",
        "width: should be a whole number, not wide (from TRITON_VIDEO_WIDTH)",
        f"seed: should be 0 or more, not -1 (in {path}, line 4)",
        "precision: should be auto, fp32 or bf16, not fp8; did you mean fp32?",
    ]


def test_what_was_misspelt_is_not_missing_too(config):
    path = config({"promt": "x"})
    assert errors_of({"config": str(path)}) == [
        f"promt: unknown key in {path}, line 1; did you mean prompt?"
    ]
    assert len(errors_of({"config": "/no/such/file"})) == 1


def test_what_happens_anyway_is_accepted(config):
    values = {"tp_size": 1, "text_encoder_precisions": ["fp32"]}
    check(
        gather(
            {"config": str(config({"prompt": "p", "mask_strategy_file_path": None, **values}))}, {}
        )
    )
    check(gather({"prompt": "p", "tp_size": "1", "enable_torch_compile": False}, {}))
    assert errors_of({"prompt": "p", "enable_torch_compile": True}) == [
        "enable_torch_compile: not supported yet; false is accepted"
    ]


def test_a_running_triton_takes_no_parameters_of_a_server():
    errors = errors_of({"prompt": "p", "triton_url": "h:1", "model_path": "x", "threads": "2"})
    assert [error.partition(":")[0] for error in errors] == ["model_path", "threads"]


def test_a_runtime_is_one_of_those_there_are():
    assert errors_of({"prompt": "p", "runtime": "dokcer"}) == [
        "runtime: should be auto, embedded, docker or podman, not dokcer; did you mean docker?"
    ]


@pytest.mark.parametrize("url", ["localhost:8001", "grpc://10.0.0.1:8001", "[::1]:8001"])
def test_good_urls(url):
    assert check(gather({"prompt": "p", "triton_url": url}, {})).server.triton_url == url


@pytest.mark.parametrize("url", ["localhost", "http://localhost:8001", "h:port", ":8001", ""])
def test_bad_urls(url):
    assert "HOST:PORT" in errors_of({"prompt": "p", "triton_url": url})[0]


@pytest.mark.parametrize("path", ["", "a\0b", "~no-such-user/x"])
def test_bad_paths(path):
    (error,) = errors_of({"prompt": "p", "output_path": path})
    assert error.startswith("output_path: ")


def test_a_config_file_may_name_a_model_that_a_running_triton_does_not_use(call, config):
    done = call("--config", config({"model_path": "x"}), url="localhost:8001")
    assert done.code == 0
    assert any(line.startswith("model_path (in ") and "is not used" in line for line in done.errors)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["generate", "--promt", "x"], "no such option --promt; did you mean --prompt?"),
        (
            ["generate", "--prompt=a", "--num_frames=3"],
            "no such option --num_frames; did you mean --num-frames?",
        ),
        (["generate", "-q", "--prompt"], "option '--prompt' requires an argument"),
        (
            ["generate", "-q", "--prompt", "--seed=1"],
            "option '--prompt' requires an argument, but --seed=1 follows",
        ),
        (["generate", "--prompt=a", "-x"], "no such option -x"),
        (
            ["generate", "--prompt", "a", "cat"],
            "got unexpected extra argument (cat); put quotes around a value that holds spaces",
        ),
        (
            ["generate", "--prompt=a", "--save-output=1"],
            "option '--save-output' does not take a value",
        ),
        (["genrate"], "no such command 'genrate'; did you mean generate?"),
    ],
)
def test_usage_errors_are_one_line(capsys, arguments, expected):
    assert run(arguments) == 2
    assert capsys.readouterr().err == f"triton-video: {expected}\n"


def test_usage_errors_in_json(capsys):
    assert run(["generate", "--json", "--promt"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["type"] == "UsageError"
    assert run(["generate", "--json", "--promt=x", "--height=0"]) == 2
    told = json.loads(capsys.readouterr().out)["errors"]
    assert [(error["type"], error.get("field")) for error in told] == [
        ("UsageError", None),
        ("InputError", "height"),
    ]


def test_a_known_flag_as_a_value_is_written_with_an_equals_sign(call, backend):
    assert call("--negative-prompt=--seed").code == 0
    assert call("--negative-prompt", "--seed of doubt").code == 0


def test_subcommands_keep_their_own_words(capsys):
    assert run(["export", "inspect", "--jsn"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "triton-video: no such option --jsn; did you mean --json?",
        "triton-video: missing argument 'REPO'",
    ]
    assert run(["export", "--model-pth=x", "inspect", "repo"]) == 2
    assert capsys.readouterr().err == "triton-video: put the options of inspect after its name\n"
    assert run(["worker", "--triton-ulr", "h:1"]) == 2
    assert (
        capsys.readouterr().err
        == "triton-video: no such option --triton-ulr; did you mean --triton-url?\n"
    )


def test_both_spellings_of_a_flag():
    assert run(["generate", "--prompt=x", "--model-path", "/nope", "-q"]) == 3
    assert run(["generate", "--prompt", "x", "--model-path=/nope", "-q"]) == 3
