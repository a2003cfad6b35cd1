"""``triton-video generate``: generates one video from a prompt."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, get_args

import click

from cli.app import App
from cli.failure import Style
from cli.output.progress import choose_view
from cli.params.commands import GenerateParams
from cli.params.options import ParamsCommand
from cli.params.raw import RawParams
from cli.params.sources import collect_from, unused_with_url, validate
from cli.run import dry_run
from cli.run.choice import choose_backend
from cli.run.loras import with_uses
from export.progress import ProgressView
from pipeline.errors import InputError, OutputError
from pipeline.families.step_cache.table import Level

if TYPE_CHECKING:
    from cli.run.generation import Result

HELP = """Generate one video from a prompt.

Starts a Triton Inference Server for this run, or calls a running one (--triton-url). Standard
output is the path of the video. Values come from flags, then environment variables
(TRITON_VIDEO_NUM_FRAMES and so on), then the config file, then the model.
"""


def command() -> click.Command:
    """Return the click command; its options follow from its parameters in `cli.params.commands`."""
    return ParamsCommand("generate", GenerateParams, callback=_generate, help=HELP)


@click.pass_context
def _generate(ctx: click.Context, /, **_: object) -> None:
    from cli.run.generation import Generation, read_files

    app = App.of(ctx)
    raw = collect_from(ctx, GenerateParams)
    params = for_a_running_triton(validate(raw, GenerateParams))
    app.style = Style(verbose=params.report.verbose, as_json=params.report.as_json)
    backend = app.backend or choose_backend(params.start)
    if dry_run.asked(params.dry, runs_triton=params.server.triton_url is None):
        files = read_files(params)
        dry_run.print_plan(
            params.dry, backend, params.start, params.stages,
            sampling=params.sampling, files=files.described if files else {},
        )  # fmt: skip
        return
    with choose_view(quiet=params.report.quiet) as view:
        _note_unused(raw, view)
        result = Generation(params, view, backend).run()
    _print_result(result, as_json=params.report.as_json)


def for_a_running_triton(params: GenerateParams) -> GenerateParams:
    """Return the parameters, with ``step_cache`` and ``lora`` as those of the request if Triton
    runs already.

    Raises ``InputError`` for a table, a threshold or a LoRA's path, which only the server's own
    settings may name.
    """
    if params.server.triton_url is None:
        return params
    sampling, option = with_uses(params.sampling, params.stages), params.stages.step_cache
    if "step_cache" not in params.stages.model_fields_set:
        return params.model_copy(update={"sampling": sampling})
    if option not in get_args(Level):
        raise InputError(
            "step_cache",
            f"{option} is not valid with --triton-url; it must be {', '.join(get_args(Level))}",
        )
    sampling = sampling.model_copy(update={"step_cache": option})
    return params.model_copy(update={"sampling": sampling})


def _note_unused(raw: RawParams, view: ProgressView) -> None:
    if "triton_url" in raw.values:
        for key in unused_with_url(raw.values, requests=True):
            view.note(
                f"{key}{raw.values[key].place} is not used: the running Triton was started with "
                "its own value"
            )


def _print_result(result: Result, *, as_json: bool) -> None:
    """Print one line on standard output; nothing if no file was saved.

    Raises ``OutputError`` if standard output cannot be written.
    """
    text = json.dumps(_summary(result)) if as_json else str(result.video or "")
    try:
        if text:
            print(text, flush=True)
    except OSError as error:
        # The interpreter flushes again when it exits, and would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise OutputError(
            f"cannot write to standard output: {error.strerror}; the video is {result.video}"
        ) from None


def _summary(result: Result) -> dict[str, object]:
    fields = (
        "seed",
        "width",
        "height",
        "fps",
        "num_inference_steps",
        "guidance_scale",
    )
    return {
        "video": str(result.video) if result.video else None,
        "frames": str(result.frames) if result.frames else None,
        **{field: getattr(result.request, field) for field in fields},
        "num_frames": result.request.total_frames,
        "model": result.model,
        "seconds": result.seconds,
    }
