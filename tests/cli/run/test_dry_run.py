"""``--dry-run`` plans for this machine or another one, and starts nothing."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from cli.main import run
from cli.params.groups import DryRunGroup
from cli.run.dry_run import GB, GPU_GB, assumed
from pipeline.memory.capacity import Capacity
from scripts.published import PUBLISHED

GENERATE = ("generate", "--prompt", "p", "--runtime", "embedded", "--dry-run")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    folder = tmp_path_factory.mktemp("published")

    def build(name: str) -> str:
        if not (folder / name).exists():
            PUBLISHED[name](folder / name)
        return str(folder / name)

    return build


@pytest.fixture(autouse=True)
def nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("a dry run prepared or started something")

    for name in ("prepare", "server", "lasting_server"):
        monkeypatch.setattr(f"cli.run.backend.Backend.{name}", fail)


@pytest.mark.parametrize(
    ("gpus", "memory", "capacity"),
    [
        (None, None, None),
        ("0", None, Capacity(None)),
        ("24GB", None, Capacity(None, (24 * GPU_GB,))),
        ("2x80GB,12GB", "64GB", Capacity(64 * GB, (80 * GPU_GB, 80 * GPU_GB, 12 * GPU_GB))),
        (None, "8GB", Capacity(8 * GB)),
    ],
)
def test_the_assumed_machine(gpus: str | None, memory: str | None, capacity: object) -> None:
    params = DryRunGroup(dry_run=True, assume_gpus=gpus, assume_memory=memory)
    assert assumed(params) == capacity


@pytest.mark.parametrize("text", ["4x", "80", "x80GB", "80GB,", "0x80GB", "80GiB"])
def test_a_list_of_gpus_that_cannot_be_read_is_refused(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*GENERATE, "--assume-gpus", text]) == 2
    assert "triton-video: assume_gpus" in capsys.readouterr().err


def test_generate_prints_the_plan_of_its_video(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*GENERATE, "--num-frames", "33", "--assume-gpus", "2x24GB", "--num-gpus", "2"]) == 0
    out = capsys.readouterr().out
    assert "video: 64x64, 33 frames, 20 steps" in out
    assert "ulysses_degree: 2" in out
    assert re.search(r"GPU 1 +dit rank 1 +weights", out)
    assert "of 25.3 GB free on GPU 1" in out


def test_serve_prints_its_limits_and_plan(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["serve", "--runtime", "embedded", "--dry-run", "--assume-memory", "8GB"]) == 0
    assert "of 8.0 GB free on the host" in capsys.readouterr().out


def test_a_plan_that_does_not_fit_is_printed_with_the_flags_that_help(
    published: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--model-path", published("Wan2.1-T2V-14B"), "--assume-gpus", "24GB")
    assert run([*GENERATE, *words, "--precision", "bf16"]) == 2
    out, err = capsys.readouterr()
    assert re.search(r"GPU 0 +dit rank 0 +weights +28.6 GB", out)
    assert "with --dit-layerwise-offload it would fit" in err
    assert run([*GENERATE, *words, "--precision", "bf16", "--dit-layerwise-offload"]) == 0


def test_the_other_gpus_are_suggested(
    published: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--model-path", published("HunyuanVideo"), "--precision", "bf16"]
    words += ["--dit-layerwise-offload", "--assume-gpus", "2x16GB"]
    assert run([*GENERATE, *words]) == 2
    assert "with --num-gpus 2 it would fit" in capsys.readouterr().err
    assert run([*GENERATE, *words, "--num-gpus", "2"]) == 0


FOUR = ["--text-encoder-cpu-offload", "--pin-cpu-memory", "--num-gpus", "4",
        "--ulysses-degree=2", "--ring-degree=2"]  # fmt: skip
FAST = ["--num-gpus", "2", "--sp-size", "2", "--tp-size", "1", "--num-frames", "45",
        "--height", "720", "--width", "1280", "--num-inference-steps", "6",
        "--precision", "bf16", "--vae-precision", "fp16", "--vae-tiling", "--vae-sp",
        "--text-encoder-precisions", "fp16", "--text-encoder-precisions", "fp16"]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "flags", "gpus"),
    [
        ("Wan2.1-T2V-1.3B", FOUR, "4x80GB"),
        ("Wan2.1-T2V-1.3B", FOUR, "4x24GB"),
        ("Wan2.2-T2V-A14B", FOUR, "4x80GB"),
        ("HunyuanVideo", FAST, "2x80GB"),
    ],
)
def test_published_examples_fit_in_bf16_on_gpus(
    name: str,
    flags: list[str],
    gpus: str,
    published: Callable[[str], str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The examples of sglang's documentation; FastHunyuan has the sizes of HunyuanVideo."""
    words = ["--model-path", published(name), *flags, "--assume-gpus", gpus]
    assert run([*GENERATE, *words]) == 0
    out = capsys.readouterr().out
    assert 'precision: "bf16"' in out
    places = {line.split("  ")[0] for line in out.splitlines() if "  weights  " in line}
    assert "GPU 1" in places


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--assume-gpus", "24GB"], "assume_gpus: requires --dry-run"),
        (["--assume-memory", "24GB"], "assume_memory: requires --dry-run"),
        (["--dry-run", "--triton-url", "h:1"], "dry_run: not allowed with --triton-url"),
    ],
)
@pytest.mark.parametrize("command", [["generate", "--prompt", "p"], ["serve"]])
def test_flags_of_a_dry_run_that_have_no_effect_are_refused(
    command: list[str], words: list[str], error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*command, *words]) == 2
    assert error in capsys.readouterr().err


def test_generate_prints_the_steps_that_are_reused(
    published: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--model-path", published("Wan2.1-T2V-1.3B"), "--assume-gpus", "80GB")
    assert run([*GENERATE, *words, "--step-cache", "2x"]) == 0
    out = capsys.readouterr().out
    assert "step cache: computes 25 of 50 steps; reuses in 11, 12, 13, 15, " in out
    assert re.search(r"GPU 0 +dit rank 0 +step cache +\d", out)
    assert run([*GENERATE, *words]) == 0
    assert "step cache" not in capsys.readouterr().out


def test_plan_knows_the_steps_of_both_experts(
    published: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--model-path", published("Wan2.2-T2V-A14B"), "--assume-gpus", "80GB")
    assert run([*GENERATE, *words, "--step-cache", "1.5x", "--flow-shift", "12"]) == 0
    assert "step cache: computes 26 of 40 steps; reuses in " in capsys.readouterr().out


def test_serve_plans_memory_for_its_default_step_cache(
    published: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--model-path", published("Wan2.1-T2V-1.3B"), "--assume-gpus", "80GB")
    assert run(["serve", "--runtime", "embedded", "--dry-run", *words]) == 0
    assert "step cache" not in capsys.readouterr().out
    serve = ["serve", "--runtime", "embedded", "--dry-run", "--step-cache", "1.5x"]
    assert run([*serve, *words]) == 0
    assert re.search(r"GPU 0 +dit rank 0 +step cache +\d", capsys.readouterr().out)


def test_the_vaes_encoder_is_planned_where_it_is_asked_for(
    published: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*GENERATE, "--model-path", published("Wan2.1-T2V-1.3B"), "--assume-gpus", "0"]
    words += ["--assume-memory", "128GB"]
    assert run(words) == 0
    assert "vae_encoder" not in capsys.readouterr().out
    assert run([*words, "--vae-config.load-encoder"]) == 0
    assert "vae_encoder" in capsys.readouterr().out
    words[words.index("--model-path") + 1] = published("HunyuanVideo")
    assert run([*words, "--vae-config.load-encoder"]) == 2
    assert "vae_config.load_encoder: not supported; hunyuan-video edits no videos" in (
        capsys.readouterr().err
    )
