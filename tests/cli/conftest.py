"""A checkpoint of a few hundred bytes, and a backend that makes its video at once."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli.logs import LOGGERS
from cli.main import run
from cli.run.backend import Backend, cache_errors
from pipeline.client import Progress, Video
from pipeline.families import Inputs, VideoRequest

MP4 = b"\0\0\0\x18ftypisom" + bytes(100)


@pytest.fixture(autouse=True)
def _the_log_as_it_was() -> Iterator[None]:
    """Commands that last set up the log of the whole process."""
    root, loggers = logging.getLogger(), [logging.getLogger(name) for name in LOGGERS]
    handlers, levels = list(root.handlers), [logger.level for logger in (root, *loggers)]
    yield
    root.handlers[:] = handlers
    for logger, level in zip((root, *loggers), levels, strict=True):
        logger.setLevel(level)


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    """A folder that `Checkpoint.open` takes for whole; it holds no weights."""
    folder = tmp_path / "tiny"
    classes = {
        "tokenizer": "T5TokenizerFast",
        "text_encoder": "UMT5EncoderModel",
        "transformer": "WanTransformer3DModel",
        "vae": "AutoencoderKLWan",
        "scheduler": "UniPCMultistepScheduler",
    }
    configs = {
        "tokenizer/tokenizer_config.json": {},
        "scheduler/scheduler_config.json": {
            "use_flow_sigmas": True,
            "prediction_type": "flow_prediction",
        },
        "text_encoder/config.json": {"d_model": 8},
        "transformer/config.json": {
            "in_channels": 4,
            "out_channels": 4,
            "text_dim": 8,
            "patch_size": [1, 2, 2],
        },
        "vae/config.json": {"z_dim": 4},
        "triton_video.json": {
            "height": 64,
            "width": 64,
            "num_frames": 17,
            "num_inference_steps": 4,
        },
        "model_index.json": {
            "_class_name": "WanPipeline",
            **{k: ["library", v] for k, v in classes.items()},
        },
    }
    for name, value in configs.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(value))
    weights = (
        "transformer/diffusion_pytorch_model",
        "vae/diffusion_pytorch_model",
        "text_encoder/model",
    )
    for name in weights:
        (folder / f"{name}.safetensors").write_bytes(struct.pack("<Q", 2) + b"{}")
    return folder


@dataclass
class FakeBackend(Backend):
    """Records what happened in ``log``. ``failure`` is raised in mid-stream, or called if it can
    be.
    """

    failure: Any = None
    death: str | None = None
    prepare_failure: Exception | None = None
    ready_failure: Exception | None = None
    log: list = field(default_factory=list)
    settings: object = None
    grpc_url: str = "127.0.0.1:1"

    def share_imports(self, checkpoint):
        """Do nothing: there is nothing to import."""

    def prepare(self, checkpoint, settings, on_progress):
        self.settings = settings
        on_progress("exporting the text encoder")
        with cache_errors():
            if self.prepare_failure:
                raise self.prepare_failure
        return checkpoint.path

    @contextlib.contextmanager
    def server(self, repository, on_progress):
        on_progress("loading dit (1/2)")
        self.log.append("started")
        try:
            yield self
        finally:
            self.log.append("stopped")

    @contextlib.contextmanager
    def client(self, url, hang_timeout_s, token):
        self.log.append(f"client {url}")
        yield self

    def died(self):
        return self.death

    def require_ready(self):
        self.log.append("asked")
        if self.ready_failure:
            raise self.ready_failure

    def generate(self, params, *, inputs=None, return_frames=False):
        self.log.append(params)
        if inputs is not None and inputs != Inputs():
            self.log.append(inputs)
        request = VideoRequest(
            height=params.height or 64, width=params.width or 64,
            num_frames=params.num_frames or 17, fps=16,
            num_inference_steps=4, guidance_scale=5.0, flow_shift=None, seed=params.seed or 7,
            return_frames=return_frames,
        )  # fmt: skip
        finished = False
        try:
            for step in range(1, 5):
                yield Progress("denoise", step, 4)
                if step == 2 and self.failure is not None:
                    if isinstance(self.failure, BaseException):
                        raise self.failure
                    self.failure()
            yield Progress("decode", 5, 5)
            shape = (request.num_frames, request.height, request.width, 3)
            finished = True
            yield Video(
                MP4,
                b"thumbnail",
                b"spritesheet",
                request,
                np.zeros(shape, np.uint8) if return_frames else None,
            )
        finally:
            if not finished:
                self.log.append("cancelled")


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend()


@dataclass
class Outcome:
    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        return [line.removeprefix("triton-video: ") for line in self.err.splitlines()]


@pytest.fixture
def call(checkpoint, backend, capsys, tmp_path, monkeypatch):
    """Runs ``triton-video generate`` with the fakes; the output folder is ``tmp_path/out``."""
    for name in [name for name in os.environ if name.startswith("TRITON_VIDEO_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)

    def call(
        *arguments: object, model=True, prompt="A red circle moves right!", url=None
    ) -> Outcome:
        words = ["generate", "--output-path", str(tmp_path / "out")]
        words += ["--prompt", prompt] if prompt is not None else []
        words += (
            ["--triton-url", url] if url else ["--model-path", str(checkpoint)] if model else []
        )
        code = run([*words, *map(str, arguments)], backend)
        return Outcome(code, *capsys.readouterr())

    return call


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "out"
