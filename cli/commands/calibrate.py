"""``triton-video calibrate``: measures the table of a model's step cache."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.app import App
from cli.output.progress import choose_view
from cli.params.commands import CalibrateParams
from cli.params.options import ParamsCommand
from cli.params.sources import load
from cli.run.backend import Backend
from cli.run.checkpoints import bundled_checkpoint, resolve
from cli.run.prepare import prepare
from export.progress import ProgressView
from pipeline.checkpoint.folder import Checkpoint
from pipeline.checkpoint.hub import locate
from pipeline.errors import InputError, OutputError
from pipeline.families import SamplingParams, VideoRequest
from pipeline.families.step_cache.table import FILE_NAME, StepCacheTable
from pipeline.json_record import save_record

if TYPE_CHECKING:
    from cli.run.input_files import InputFiles

HELP = """Measure the table that --step-cache needs, for any checkpoint.

Denoises a few videos and writes how much the transformer's result changes from step to step.
Standard output is the path of the file.
"""
PROMPTS = (
    "A red kite rises over a stony beach while waves roll in, seen from a low angle.",
    "An old woman kneads bread dough in a sunlit kitchen, her hands in close-up.",
    "A tram passes a wet street at night, and neon signs shine in the puddles.",
)


def command() -> click.Command:
    """Return the click command; its options follow from its parameters in `cli.params.commands`."""
    return ParamsCommand("calibrate", CalibrateParams, callback=_calibrate, help=HELP)


@click.pass_context
def _calibrate(ctx: click.Context, /, **_: object) -> None:
    app, params = App.of(ctx), load(ctx, CalibrateParams)
    app.style.verbose = params.log.verbose
    with choose_view(quiet=params.log.quiet) as view:
        file = _run(params, view, app.backend or Backend())
    click.echo(str(file))


def _run(params: CalibrateParams, view: ProgressView, backend: Backend) -> Path:
    model = params.calibration.model_path or bundled_checkpoint()
    folder = locate(model, None, lambda text: view.message("prepare", text)).path
    file = params.calibration.output or folder / FILE_NAME
    _require_place(file, overwrite=params.calibration.overwrite)
    from cli.run.input_files import InputFiles  # imports Pillow and PyAV

    videos, files = sampling_of(params), InputFiles.read(params.reference)
    repository = prepare(
        backend, folder, params.stages, view, verbose=params.log.verbose,
        request_for=lambda checkpoint: _request(checkpoint, videos[0], files),
        export_first=False,
    )  # fmt: skip
    # It imports the stages, which the start of the command line does not need.
    from pipeline.stages.calibration import measure

    table, request = measure(repository, videos, files.inputs, view.step)
    _write(table.model_copy(update={"source": _source(len(videos), request)}), file)
    return file


def sampling_of(params: CalibrateParams) -> list[SamplingParams]:
    """Return the videos to measure: one for each prompt, with consecutive seeds."""
    given = params.calibration
    fields = set(SamplingParams.model_fields) - {"seed", "prompt"}
    values = given.model_dump(include=fields)
    return [
        SamplingParams(prompt=prompt, seed=given.seed + number, **values)
        for number, prompt in enumerate(given.prompts or PROMPTS)
    ]


def _request(checkpoint: Checkpoint, sampling: SamplingParams, files: InputFiles) -> VideoRequest:
    if checkpoint.info.defaults.denoising_timesteps:
        raise InputError(
            "model_path", "was distilled to few steps; a step cache needs a model with more"
        )
    return resolve(checkpoint.info, sampling, **files.described)


def _source(count: int, request: VideoRequest) -> str:
    return (
        f"triton-video calibrate: {count} videos of {request.width}x{request.height}, "
        f"{request.num_frames} frames, {request.num_inference_steps} steps"
    )


def _require_place(file: Path, *, overwrite: bool) -> None:
    if file.exists() and not overwrite:
        raise OutputError(f"{file} exists; --overwrite replaces it")
    if not os.access(file.parent, os.W_OK):
        raise OutputError(f"{file.parent} is not a writable folder; --output names another file")


def _write(table: StepCacheTable, file: Path) -> None:
    """Write the table whole, or leave what is there."""
    part = file.with_name(f"{file.name}.part")
    try:
        save_record(table, part)
        part.replace(file)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OutputError(f"{file} cannot be written: {error.strerror}") from error
