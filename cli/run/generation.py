"""One run of `generate`: prepare, start Triton, stream, write.

Imports in functions are of packages that only a run needs, not the start of the command line.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from cli.failure import all_of
from cli.output.files import Destination, Writer
from cli.output.stopwatch import Stopwatch
from cli.params.commands import GenerateParams
from cli.run.backend import Backend, Client
from cli.run.checkpoints import resolve
from cli.run.devices import Hardware
from cli.run.prepare import prepare
from cli.run.stage_settings import stage_settings
from cli.run.triton_token import known_token
from cli.runtime.base import Server
from export.progress import ProgressView
from pipeline.checkpoint.folder import Checkpoint
from pipeline.errors import GenerationError, InputError, ServerError
from pipeline.families import SamplingParams, VideoRequest

if TYPE_CHECKING:
    from cli.run.input_files import InputFiles
    from pipeline.client import Video


@dataclass(frozen=True)
class Result:
    """The paths of the files (None if not saved), the complete request, and seconds per stage."""

    video: Path | None
    frames: Path | None
    request: VideoRequest
    model: str | None
    seconds: dict[str, float]


class Generation:
    """One run of `generate`; every resource is released when `run` ends, also by an error."""

    def __init__(self, params: GenerateParams, view: ProgressView, backend: Backend):
        self._params = params
        self._view = view
        self._backend = backend
        self._watch = Stopwatch()
        self._model: str | None = None
        self._files: InputFiles | None = None

    def run(self) -> Result:
        """Generate the video. Raises the errors of `pipeline.errors`, as early as possible."""
        self._watch.enter("prepare")
        output = self._params.output
        self._files = read_files(self._params)
        with ExitStack() as stack:
            destination = None
            if output.save_output:
                destination = stack.enter_context(Destination(output, self._params.sampling.prompt))
            video = self._make(destination)
            path, frames = (
                destination.write(video.mp4, _frames_writer(video)) if destination else (None, None)
            )
            return Result(path, frames, video.request, self._model, self._watch.seconds())

    def _make(self, destination: Destination | None) -> Video:
        with ExitStack() as stack:
            url = self._params.server.triton_url
            server: Server | None = None
            if url is None:
                stack.callback(self._backend.close)
                server = stack.enter_context(self._own_server(destination))
                url = server.grpc_url
            else:
                self._require_space(destination, self._params.sampling)
                self._begin("start", f"calling {url}")
            token = known_token(self._params.server, [url], os.environ)
            client = stack.enter_context(
                self._backend.client(url, self._params.server.hang_timeout_s, token)
            )
            if server is None:
                client.require_ready()
            with _reason_of_death(server):
                return self._stream(client)

    def _own_server(self, destination: Destination | None) -> AbstractContextManager[Server]:
        repository = prepare(
            self._backend,
            self._params.start.model_path,
            self._params.stages,
            self._view,
            verbose=self._params.report.verbose,
            request_for=lambda checkpoint: self._request(checkpoint, destination),
            export_first=False,
            share_imports=True,
        )
        self._begin("start", "")
        return self._backend.server(repository, lambda text: self._view.message("start", text))

    def _request(self, checkpoint: Checkpoint, destination: Destination | None) -> VideoRequest:
        self._model = checkpoint.info.name
        if self._params.start.model_path is None:
            self._view.note(f"no --model-path: using the bundled checkpoint {self._model}")
        described = self._files.described if self._files else {}
        # The settings are made again for the server: here, their errors and those of the request
        # are reported together.
        request, _ = all_of(
            lambda: resolve(checkpoint.info, self._params.sampling, **described),
            lambda: stage_settings(checkpoint, self._params.stages, Hardware(gpu=False)),
        )
        if destination:
            destination.require_space(request.total_frames, request.height, request.width)
        return request

    def _stream(self, client: Client) -> Video:
        from pipeline.client import Video

        self._watch.enter("denoise")
        wants_frames = self._params.output.save_output and self._params.output.return_frames
        inputs = self._files.inputs if self._files else None
        stream = client.generate(self._params.sampling, inputs=inputs, return_frames=wants_frames)
        # Closed at once by Ctrl-C, which cancels the request on the device.
        with closing(stream) as events:  # pyright: ignore[reportArgumentType]
            for event in events:
                if isinstance(event, Video):
                    return event
                self._view.step(event.stage, event.step, event.total)
                if event.stage == "denoise" and event.step == event.total:
                    self._watch.enter("decode")
        raise GenerationError("the server sent no video")

    def _begin(self, stage: str, text: str) -> None:
        self._watch.enter(stage)
        self._view.message(stage, text)

    @staticmethod
    def _require_space(destination: Destination | None, sampling: SamplingParams) -> None:
        # The defaults of a running Triton's model are not known here.
        if destination and sampling.num_frames and sampling.height and sampling.width:
            destination.require_space(sampling.num_frames, sampling.height, sampling.width)


def read_files(params: GenerateParams) -> InputFiles | None:
    """Read the files that the parameters name; None without one. Raises ``InputError``, also for
    ones that do not go together.
    """
    edits, extends = params.video.input_video is not None, params.video.extend is not None
    strength = params.sampling.strength is not None
    if edits and extends:
        raise InputError("extend", "not valid with --input-video; edit or extend one video")
    if edits and not strength:
        raise InputError(
            "strength", "required with --input-video; to continue the video, use --extend"
        )
    if strength and not edits:
        raise InputError("strength", "requires --input-video, the video to edit")
    images = params.reference.input_reference, params.reference.last_frame
    if not edits and not extends and images == (None, None):
        return None
    from cli.run.input_files import InputFiles  # imports Pillow and PyAV

    return InputFiles.read(params.reference, params.video)


@contextmanager
def _reason_of_death(server: Server | None) -> Iterator[None]:
    """Report an error of the connection as the server's death, if it died."""
    try:
        yield
    except (ServerError, GenerationError) as error:
        death = server.died() if server else None
        if death is None:
            raise
        raise ServerError(
            f"the server died during generation: {death}", details=str(error)
        ) from error


def _frames_writer(video: Video) -> Writer | None:
    frames = video.frames
    if frames is None:
        return None
    import numpy as np

    def write(file: BinaryIO) -> None:
        # Not np.save: its error for a full disk does not say that the disk is full.
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(frames))
        file.write(np.ascontiguousarray(frames).data)

    return write
