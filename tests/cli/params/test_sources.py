"""The sources of values, their precedence, and the errors of values that are wrong."""

from __future__ import annotations

import json

import pytest

from cli.main import run
from tests.cli.params.loading import errors_of, params_of


def test_command_line_over_environment_over_file_over_default(config):
    path = config({"prompt": "file", "height": 64, "width": 64, "fps": 8})
    environment = {
        "TRITON_VIDEO_HEIGHT": "80",
        "TRITON_VIDEO_WIDTH": "80",
        "TRITON_VIDEO_CONFIG": str(path),
    }
    params = params_of({"height": "96"}, environment)
    assert params.sampling.prompt == "file"
    assert (params.sampling.height, params.sampling.width, params.sampling.fps) == (96, 80, 8)
    assert params.sampling.seed is None


def test_switches_from_every_source(config):
    path = config({"prompt": "p", "save_output": False, "return_frames": True})
    assert params_of({"config": str(path)}).output.save_output is False
    output = params_of(
        {"config": str(path), "save_output": True}, {"TRITON_VIDEO_RETURN_FRAMES": "false"}
    ).output
    assert (output.save_output, output.return_frames) == (True, False)


def test_empty_variable_is_not_set():
    assert params_of({"prompt": "p"}, {"TRITON_VIDEO_HEIGHT": ""}).sampling.height is None


def test_null_is_not_set(config):
    path = config({"prompt": "p", "height": None, "vae_precision": None, "save_output": None})
    assert params_of({"config": str(path)}).output.save_output is True


def test_json_is_a_key_like_any_other(config):
    assert params_of({"config": str(config({"prompt": "p", "json": True}))}).report.as_json is True


def test_all_errors_are_reported_together_with_their_sources(config):
    path = config({"fps": 0})
    flags = {
        "config": str(path),
        "height": "abc",
        "precision": "fp23",
        "output_file_name": "a/b",
        "threads": "1.5",
    }
    assert errors_of(flags, {"TRITON_VIDEO_WIDTH": "0", "TRITON_VIDEO_SAVE_OUTPUT": "perhaps"}) == [
        "prompt: required; pass --prompt or set it in the config file",
        "height: should be a whole number, not abc",
        "width: should be 1 or more, not 0 (from TRITON_VIDEO_WIDTH)",
        f"fps: should be 1 or more, not 0 (in {path}, line 1)",
        "threads: should be a whole number, not 1.5",
        "precision: should be auto, fp32 or bf16, not fp23; did you mean fp32?",
        "output_file_name: should be a name without folders; set the folder with --output-path",
        "save_output: should be true or false, not perhaps (from TRITON_VIDEO_SAVE_OUTPUT)",
    ]


def test_nested_keys_from_every_source(config):
    path = config(
        {"prompt": "p", "vae_config": {"load_encoder": False, "tile_sample_min_height": 1}}
    )
    names = ("tile_sample_min_width", "tile_sample_stride_height")
    environment = {f"TRITON_VIDEO_VAE_CONFIG_{name.upper()}": "64" for name in names}
    environment["TRITON_VIDEO_VAE_CONFIG_LOAD_DECODER"] = "true"
    flags = {"config": str(path), "vae_config.tile_sample_min_height": "128"}
    vae = params_of(flags, environment).stages.vae_config
    assert (
        vae.tile_sample_min_height,
        vae.tile_sample_min_width,
        vae.tile_sample_stride_height,
    ) == (128, 64, 64)


def test_dotted_flags(call, backend):
    assert call("--vae-config.tile-sample-min-height", "128", "--vae-config.load-decoder").code == 0
    assert backend.settings.vae_config.tile_sample_min_height == 128
    assert call("--vae-config.tile-sample-min-hight=1").errors == [
        "no such option --vae-config.tile-sample-min-hight; "
        "did you mean --vae-config.tile-sample-min-height?"
    ]
    assert call("--vae-config.tile-sample-min-height=0").errors == [
        "vae_config.tile_sample_min_height: should be 1 or more, not 0"
    ]


def test_errors_of_all_sources_are_reported_together(call, config, backend, monkeypatch):
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
        "prompt: required; pass --prompt or set it in the config file",
        "width: should be a whole number, not wide (from TRITON_VIDEO_WIDTH)",
        f"seed: should be 0 or more, not -1 (in {path}, line 4)",
        "precision: should be auto, fp32 or bf16, not fp8; did you mean fp32?",
    ]


def test_misspelt_key_is_not_also_missing(config):
    path = config({"promt": "x"})
    assert errors_of({"config": str(path)}) == [
        f"promt: unknown key in {path}, line 1; did you mean prompt?"
    ]
    assert len(errors_of({"config": "/no/such/file"})) == 1


def test_values_without_effect_are_accepted(config):
    values = {"tp_size": 1, "text_encoder_precisions": ["fp32"]}
    params_of({"config": str(config({"prompt": "p", "mask_strategy_file_path": None, **values}))})
    params_of({"prompt": "p", "tp_size": "1", "enable_torch_compile": False})


def test_running_triton_refuses_server_parameters():
    errors = errors_of({"prompt": "p", "triton_url": "h:1", "model_path": "x", "threads": "2"})
    assert [error.partition(":")[0] for error in errors] == ["model_path", "threads"]


def test_unknown_runtime_suggests_the_nearest():
    assert errors_of({"prompt": "p", "runtime": "dokcer"}) == [
        "runtime: should be auto, embedded, docker or podman, not dokcer; did you mean docker?"
    ]


@pytest.mark.parametrize("url", ["localhost:8001", "grpc://10.0.0.1:8001", "[::1]:8001"])
def test_good_urls(url):
    assert params_of({"prompt": "p", "triton_url": url}).server.triton_url == url


@pytest.mark.parametrize("url", ["localhost", "http://localhost:8001", "h:port", ":8001", ""])
def test_bad_urls(url):
    assert "HOST:PORT" in errors_of({"prompt": "p", "triton_url": url})[0]


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("assume_gpus", "should be 0 or GPUs such as 4x80GB or 24GB,12GB, not many"),
        ("assume_memory", "should be gigabytes such as 512GB, not many"),
    ],
)
def test_wrong_memory_of_a_dry_run_names_the_form(field, message):
    assert errors_of({"prompt": "p", field: "many"}) == [f"{field}: {message}"]


@pytest.mark.parametrize("path", ["", "a\0b", "~no-such-user/x"])
def test_bad_paths(path):
    (error,) = errors_of({"prompt": "p", "output_path": path})
    assert error.startswith("output_path: ")


def test_unused_config_key_with_a_running_triton_is_noted(call, config):
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
    printed = json.loads(capsys.readouterr().out)["errors"]
    assert [(error["type"], error.get("field")) for error in printed] == [
        ("UsageError", None),
        ("InputError", "height"),
    ]


def test_value_that_looks_like_a_flag_needs_an_equals_sign(call, backend):
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
