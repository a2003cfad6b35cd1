"""`generate` over a fake server: what it writes, prints and leaves behind."""

from __future__ import annotations

import json
import os
import re
import signal

import numpy as np
import pytest
from PIL import Image

from cli.failure import PROGRAM
from pipeline.errors import (
    CancelledError,
    CheckpointError,
    GenerationError,
    InputError,
    ServerError,
    TritonVideoError,
)
from pipeline.families import Inputs

NAME = "a-red-circle-moves-right"


def names(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_standard_output_is_the_path_of_the_video(call, out, backend):
    done = call("--seed", 3)
    assert done.code == 0
    assert done.out == f"{out / NAME}.mp4\n"
    assert (out / f"{NAME}.mp4").read_bytes()[4:8] == b"ftyp"
    assert backend.log[-1] == "stopped"
    assert names(out) == [f"{NAME}.mp4"]


def test_plain_progress_lines_name_every_stage(call):
    memory, *lines = call().errors
    assert re.fullmatch(r"memory: needs \S+ [kMG]?B of \S+ GB free on the host", memory)
    assert lines == [
        "preparing: model repository",
        "preparing: exporting the text encoder",
        "starting Triton",
        "starting Triton: loading dit (1/2)",
        *(f"denoise {step}/4" for step in range(1, 5)),
        "decode 5/5",
    ]


def test_quiet_prints_the_path_only(call):
    done = call("-q")
    assert (done.code, done.err) == (0, "")
    assert done.out.endswith(".mp4\n")


def test_json_result(call, out):
    summary = json.loads(call("--json", "--return-frames", "--seed=9", "--num-frames=5").out)
    assert summary.pop("seconds").keys() == {"prepare", "start", "denoise", "decode", "total"}
    assert summary == {
        "video": str(out / f"{NAME}.mp4"),
        "frames": str(out / f"{NAME}.npy"),
        "seed": 9,
        "width": 64,
        "height": 64,
        "num_frames": 5,
        "fps": 16,
        "num_inference_steps": 4,
        "guidance_scale": 5.0,
        "model": "tiny",
    }


def test_frames_are_uint8_in_numpys_format(call, out):
    call("--return-frames", "--num-frames", 5)
    frames = np.load(out / f"{NAME}.npy")
    assert (frames.dtype, frames.shape) == (np.uint8, (5, 64, 64, 3))


def test_without_saving_nothing_is_written(call, out):
    done = call("--no-save-output", "--return-frames")
    assert (done.code, done.out) == (0, "")
    assert not out.exists()
    summary = json.loads(call("--no-save-output", "--json").out)
    assert (summary["video"], summary["frames"]) == (None, None)


@pytest.fixture
def picture(tmp_path):
    file = tmp_path / "picture.png"
    Image.new("RGB", (20, 10), "red").save(file)
    return file


def test_image_is_sent_unchanged_to_a_running_triton(call, backend, picture):
    assert call("--input-reference", picture, url="gpu:8001").code == 0
    assert Inputs(image=picture.read_bytes()) in backend.log


def test_text_to_video_model_refuses_an_image_early(call, backend, picture):
    done = call("--input-reference", picture)
    assert (done.code, backend.log) == (2, [])
    assert "input_reference: not supported; the model" in done.err
    assert "makes videos from text alone" in done.err


@pytest.mark.parametrize(
    ("content", "words"), [(None, "cannot be read: No such file"), (b"x", "not a PNG, JPEG")]
)
def test_file_that_is_not_an_image(call, backend, tmp_path, content, words):
    file = tmp_path / "x.png"
    if content is not None:
        file.write_bytes(content)
    done = call("--input-reference", file, url="gpu:8001")
    assert (done.code, backend.log) == (2, [])
    assert words in done.err


def test_settings_reach_the_stages(call, backend):
    call("--precision=bf16", "--threads=2")
    assert (backend.settings.precision, backend.settings.threads) == ("bf16", 2)


def test_bundled_checkpoint_is_noted_unless_quiet(call, checkpoint, monkeypatch):
    monkeypatch.setattr("cli.run.prepare.bundled_checkpoint", lambda: checkpoint)
    assert "no --model-path: using the bundled checkpoint tiny" in call(model=False).errors
    assert call("-q", model=False).err == ""


def test_a_running_triton_is_called_and_nothing_is_started(call, backend, out):
    done = call(url="localhost:8001")
    assert done.code == 0
    assert backend.log[:2] == ["client localhost:8001", "asked"]
    assert "started" not in backend.log


def test_a_running_triton_that_does_not_answer(call, backend, out):
    backend.ready_failure = ServerError("no Triton answers at localhost:8001")
    done = call("-q", url="localhost:8001")
    assert (done.code, done.errors) == (4, ["no Triton answers at localhost:8001"])
    assert not out.exists()


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (InputError("prompt", "too odd"), 2),
        (ServerError("gone"), 4),
        (GenerationError("it broke"), 6),
        (CancelledError("cancelled elsewhere"), 130),
        (TritonVideoError("hm"), 1),
    ],
)
def test_errors_of_the_stream(call, backend, out, failure, code):
    backend.failure = failure
    done = call("-q", "--json")
    assert (done.code, done.err) == (code, f"{PROGRAM}: {failure}\n")
    error = json.loads(done.out)["error"]
    assert (error["type"], error["message"]) == (type(failure).__name__, str(failure))
    assert error.get("field") == getattr(failure, "field", None)
    assert not out.exists()
    assert backend.log[-1] == "stopped"


def test_errors_before_the_server_starts(call, backend):
    backend.prepare_failure = CheckpointError("vae/config.json is missing")
    done = call("-q")
    assert (done.code, done.errors) == (3, ["vae/config.json is missing"])
    assert backend.log == []


def test_a_cache_that_cannot_be_written(call, backend):
    backend.prepare_failure = OSError(28, "No space left on device", "/cache/x")
    done = call("-q")
    expected = (
        "the model repository cannot be prepared: [Errno 28] No space left on device: '/cache/x'; "
        "set TRITON_VIDEO_CACHE to a writable folder"
    )
    assert (done.code, done.errors) == (5, [expected])


def test_dead_server_is_the_reported_reason(call, backend):
    backend.failure = ServerError("lost the Triton at 127.0.0.1:1: socket closed")
    backend.death = "tritonserver was killed (SIGKILL)"
    done = call("-q")
    assert (done.code, done.errors) == (
        4,
        ["the server died during generation: tritonserver was killed (SIGKILL)"],
    )


def test_an_unexpected_error_is_one_line_and_verbose_shows_the_traceback(call, backend):
    backend.failure = RuntimeError("two\nlines")
    done = call("-q")
    expected = "unexpected error: RuntimeError: two lines; run with -v for the traceback"
    assert (done.code, done.errors) == (1, [expected])
    assert "Traceback" in call("-qv").err


def test_verbose_shows_details(call, backend):
    backend.failure = ServerError("gone", details="E1124 the log")
    assert "E1124 the log" not in call().err
    assert "E1124 the log" in call("-v").err


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_cancels_the_work_and_leaves_nothing(call, backend, out, number, code):
    backend.failure = lambda: os.kill(os.getpid(), number)
    # under nohup SIGHUP would be ignored, and stay so
    given = signal.signal(number, signal.default_int_handler)
    before = signal.getsignal(number)
    done = call("-q", "--json")
    assert (done.code, done.errors) == (code, ["cancelled"])
    assert json.loads(done.out)["error"]["type"] == "CancelledError"
    assert backend.log[-2:] == ["cancelled", "stopped"]
    assert not out.exists()
    assert signal.signal(number, given) is before


def test_all_invalid_request_values_are_reported_early(call, backend, out):
    done = call("-q", "--height", 65, "--num-frames", 18, "--num-inference-steps", 900)
    assert done.code == 2
    assert [line.partition(":")[0] for line in done.errors] == [
        "height",
        "num_frames",
        "num_inference_steps",
    ]
    assert "64 or 80" in done.errors[0]
    assert backend.log == []
    assert not out.exists()


def test_errors_of_stages_and_model_are_reported_together(call, backend, out):
    done = call("-q", "--height", 65, "--num-gpus", 3, "--sp-size", 2)
    assert done.code == 2
    assert [line.partition(":")[0] for line in done.errors] == ["height", "num_gpus"]
    assert (backend.log, out.exists()) == ([], False)


def test_several_errors_in_json(call):
    found = json.loads(call("--height=x", "--width=0", "--json").out)
    assert [error["field"] for error in found["errors"]] == ["height", "width"]
    assert found["error"] == found["errors"][0]


def test_a_closed_standard_output_is_an_error_that_names_the_video(call, monkeypatch, tmp_path):
    with (tmp_path / "full").open("w") as full:
        monkeypatch.setattr("sys.stdout", Refusing(full))
        done = call("-q")
    assert done.code == 5
    assert (
        f"cannot write to standard output: Broken pipe; the video is {tmp_path / 'out' / NAME}.mp4"
        in done.errors
    )


class Refusing:
    """A stream whose other end is closed."""

    def __init__(self, file):
        self._file = file

    def fileno(self):
        return self._file.fileno()

    def write(self, text):
        raise BrokenPipeError(32, "Broken pipe")

    def flush(self):
        pass


def test_step_cache_is_a_setting_of_an_own_triton(call, backend, checkpoint):
    (checkpoint / "step_cache.json").write_text('{"ratios": [[[1.0]]]}')
    assert call("--step-cache=2x").code == 0
    assert backend.settings.step_cache == "2x"
    (params,) = [entry for entry in backend.log if hasattr(entry, "step_cache")]
    assert params.step_cache is None  # the server's default


@pytest.mark.parametrize(("flags", "sent"), [(["--step-cache=2x"], "2x"), ([], None)])
def test_step_cache_is_sent_to_a_running_triton(call, backend, flags, sent):
    assert call(*flags, url="gpu:8001").code == 0
    (params,) = [entry for entry in backend.log if hasattr(entry, "step_cache")]
    assert params.step_cache == sent


@pytest.mark.parametrize("option", ["threshold=0.1", "table=a.json,threshold=0.1"])
def test_running_triton_takes_only_names_of_the_step_cache(call, backend, option):
    done = call("--step-cache", option, url="gpu:8001")
    assert (done.code, backend.log) == (2, [])
    assert "must be off, 1.5x, 2x" in done.err
