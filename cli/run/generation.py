"""One video from checked parameters: prepare, start, stream, write."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from cli.failure import InputErrors, all_of
from cli.output.files import Destination, Writer
from cli.output.progress import ProgressView
from cli.output.stopwatch import Stopwatch
from cli.params.groups import ExportParams, GenerateParams, StageParams
from cli.run.backend import Backend, Client, Server
from cli.run.triton_token import known_token
from pipeline.checkpoint.folder import Checkpoint
from pipeline.checkpoint.hub import locate
from pipeline.errors import GenerationError, InputError, ServerError
from pipeline.families import ModelInfo, SamplingParams, VideoRequest
from pipeline.parallel.layout import check_text_ranks, resolve_layout
from pipeline.settings import Precision, StageSettings, VaeConfig

if TYPE_CHECKING:
    from cli.run.reference_image import ReferencePicture
    from pipeline.client import Video

AUTO_PRECISION: Precision = "fp32"


@dataclass(frozen=True)
class Result:
    """What was made: the paths (None where nothing was saved), the request as it ran, and the
    seconds of each stage.
    """

    video: Path | None
    frames: Path | None
    request: VideoRequest
    model: str | None
    seconds: dict[str, float]


class Generation:
    """One run of ``generate``. Every resource it takes is given back when `run` ends, however it
    ends.
    """

    def __init__(self, params: GenerateParams, view: ProgressView, backend: Backend):
        self._params = params
        self._view = view
        self._backend = backend
        self._watch = Stopwatch()
        self._model: str | None = None
        self._picture: ReferencePicture | None = None

    def run(self) -> Result:
        """Raises the errors of `pipeline.errors`; all that can be found before the work starts
        is.
        """
        self._watch.enter("prepare")
        output, named = self._params.output, self._params.reference.input_reference
        if named is not None:
            from cli.run.reference_image import ReferencePicture  # Pillow comes with it

            self._picture = ReferencePicture.read(named)
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
        from cli.run.memory import fitting_settings

        server = self._params.server
        origin = locate(
            server.model_path or bundled_checkpoint(),
            None,
            lambda text: self._begin("prepare", text),
        )
        checkpoint = origin.open()
        self._model = checkpoint.info.name
        if server.model_path is None:
            self._view.note(f"no --model-path given: using the bundled checkpoint {self._model}")
        size = self._picture.size if self._picture else None
        # The settings are made once more below: here to tell what is wrong with them and with the
        # request at once.
        request, _ = all_of(
            lambda: resolve(checkpoint.info, self._params.sampling, size),
            lambda: stage_settings(checkpoint, server),
        )
        if destination:
            destination.require_space(request.num_frames, request.height, request.width)
        settings = fitting_settings(
            checkpoint, server, request, self._view.note, verbose=self._params.report.verbose
        )
        self._begin("prepare", "model repository")
        repository = self._backend.prepare(
            checkpoint, settings, lambda text: self._view.message("prepare", text)
        )
        self._begin("start", "")
        return self._backend.server(repository, lambda text: self._view.message("start", text))

    def _stream(self, client: Client) -> Video:
        from pipeline.client import Video

        self._watch.enter("denoise")
        wants_frames = self._params.output.save_output and self._params.output.return_frames
        picture = self._picture.data if self._picture else None
        stream = client.generate(self._params.sampling, picture=picture, return_frames=wants_frames)
        # Closed at once when Ctrl-C comes: that is what stops the work on the device.
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
        # What a running Triton makes by default is not known here.
        if destination and sampling.num_frames and sampling.height and sampling.width:
            destination.require_space(sampling.num_frames, sampling.height, sampling.width)


def stage_settings(checkpoint: Checkpoint, server: StageParams) -> StageSettings:
    """What the stages of a Triton that is started here are told. Raises ``InputError`` for what
    they cannot do.
    """
    settings = settings_of(checkpoint, server)
    if settings.vae_precision == "bf16" and settings.vae_engine != "torch":
        raise InputError(
            "vae_precision",
            "bf16 needs the engine torch here: ONNX Runtime has none of it on a CPU",
        )
    # The first one is no graph where ranks share it.
    if "bf16" in settings.text_encoder_precisions[1 if settings.tp_size > 1 else 0 :]:
        raise InputError(
            "text_encoder_precisions", "should be fp32 or fp16: ONNX Runtime has no bf16 on a CPU"
        )
    return settings


def settings_of(checkpoint: Checkpoint, params: StageParams) -> StageSettings:
    """What stages for ``checkpoint`` are told. Raises ``InputError`` where its VAE or ranks do
    not fit.
    """
    layout = resolve_layout(
        params.num_gpus,
        params.sp_size,
        params.ulysses_degree,
        params.ring_degree,
        params.cfg_parallel,
    )
    if layout.branches > 1 and checkpoint.family.guidance_embedded:
        raise InputError(
            "cfg_parallel",
            f"has no meaning here: {checkpoint.family.name} has one pass a step; ask for more sp_size",
        )
    if (
        params.text_encoder_cpu_offload
        and isinstance(params, ExportParams)
        and params.flavour == "tensorrt"
    ):
        raise InputError(
            "text_encoder_cpu_offload",
            "engines run on the GPU; with the flavour python text encoders run on the CPU",
        )
    _check_text_ranks(checkpoint, params)
    settings = StageSettings(
        checkpoint=str(checkpoint.path),
        tp_size=params.tp_size,
        precision=AUTO_PRECISION if params.precision == "auto" else params.precision,
        text_encoder_precisions=params.text_encoder_precisions,
        threads=params.threads,
        ulysses_degree=layout.ulysses,
        ring_degree=layout.ring,
        guidance_branches=layout.branches,
        resident="block" if params.dit_layerwise_offload else "all",
        pin_cpu_memory=params.pin_cpu_memory,
        batching_max_size=params.batching_max_size,
        vae_engine=params.vae_engine,
        vae_precision=params.vae_precision,
        vae_tiling=params.vae_tiling or params.vae_sp,
        vae_devices=layout.ranks if params.vae_sp else 1,
        vae_config=params.vae_config or VaeConfig(),
    )
    if settings.vae_tiling:
        # ONNX Runtime comes with it: for those who ask for tiles
        from pipeline.decoders.opening import tiling

        tiling(checkpoint.configs["vae"], settings)  # raises where tiles do not fit
    return settings


def _check_text_ranks(checkpoint: Checkpoint, params: StageParams) -> None:
    if params.tp_size == 1:
        return
    if isinstance(params, ExportParams) and params.flavour != "python":
        raise InputError(
            "tp_size", f"needs the flavour python: in {params.flavour} a graph runs whole"
        )
    if params.text_encoder_cpu_offload:
        raise InputError(
            "tp_size",
            "should be 1 with text_encoder_cpu_offload, which keeps text encoders on the CPU",
        )
    if params.text_encoder_precisions[:1] == ("fp16",):
        raise InputError(
            "text_encoder_precisions",
            "should be fp32 or bf16 with tp_size, where the first is no graph",
        )
    check_text_ranks(checkpoint.configs["text_encoder"], params.tp_size)


def resolve(
    info: ModelInfo, params: SamplingParams, picture: tuple[int, int] | None = None
) -> VideoRequest:
    """The complete request; ``picture`` is the size of the reference picture.

    Raises ``InputErrors`` with every parameter the model cannot make, not only the first.
    """
    errors: list[InputError] = []
    while True:
        try:
            request = info.resolve(params, picture=picture)
        except InputError as error:
            errors.append(error)
            if getattr(params, error.field, None) is None:
                raise InputErrors(errors) from None
            # Go on with the model's own value, to find what else is wrong.
            params = params.model_copy(update={error.field: None})
        else:
            if errors:
                raise InputErrors(errors)
            return request


def bundled_checkpoint() -> Path:
    import models

    return Path(models.__path__[0]) / "shapes"


@contextmanager
def _reason_of_death(server: Server | None) -> Iterator[None]:
    """A connection that broke because the server died is told as that."""
    try:
        yield
    except (ServerError, GenerationError) as error:
        death = server.died() if server else None
        if death is None:
            raise
        raise ServerError(
            f"the server died while it made the video: {death}", details=str(error)
        ) from error


def _frames_writer(video: Video) -> Writer | None:
    frames = video.frames
    if frames is None:
        return None
    import numpy as np

    def write(file: BinaryIO) -> None:
        # Not np.save: into a real file it reports a full disk without saying so.
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(frames))
        file.write(np.ascontiguousarray(frames).data)

    return write
