"""``triton-video export``: exports a checkpoint, and inspects and verifies repositories.

Imports in functions keep the start light: the export needs packages that ``--help`` does not.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.app import App
from cli.failure import Style
from cli.output.progress import choose_view
from cli.params.commands import ExportParams, RepositoryParams
from cli.params.groups import ReportGroup, SourceGroup
from cli.params.options import ParamsCommand, typed
from cli.params.sources import load
from export.progress import ProgressView
from pipeline.errors import InputError, OutputError

if TYPE_CHECKING:
    from pipeline.checkpoint.hub import Download, Origin

HELP = """Export a checkpoint as a model repository that Triton serves.

Text encoders and VAE become ONNX graphs, or TensorRT engines; the transformer stays in torch.
Standard output is the path of the repository. A run that failed or was killed resumes.
"""
INSPECT_HELP = "Show an exported repository: its source, its parts, their precision and parity."
VERIFY_HELP = """Verify an exported repository.

Compares each file of the repository and of its checkpoint with the manifest, then the graphs with
torch.
"""


class ExportCommand(ParamsCommand, click.Group):
    """Exports, unless a subcommand is named."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_options(ctx, formatter)
        self.format_commands(ctx, formatter)


def command() -> click.Command:
    """Return the click command; its options follow from its parameters in `cli.params.commands`."""
    commands = [
        ParamsCommand(name, RepositoryParams, callback=callback, help=text)
        for name, callback, text in (
            ("inspect", _inspect, INSPECT_HELP),
            ("verify", _verify, VERIFY_HELP),
        )
    ]
    for each in commands:
        each.params.insert(
            0, click.Argument(["repository"], metavar="REPO", type=click.Path(path_type=Path))
        )
    return ExportCommand(
        "export",
        ExportParams,
        callback=_export,
        help=HELP,
        invoke_without_command=True,
        commands=commands,
    )


@click.pass_context
def _export(ctx: click.Context, /, **values: object) -> None:
    if ctx.invoked_subcommand:
        if typed(values) or App.of(ctx).prevalidated.problems:
            raise click.UsageError(f"put the options of {ctx.invoked_subcommand} after its name")
        return
    params = load(ctx, ExportParams)
    _report_as(ctx, params.report)
    with choose_view(quiet=params.report.quiet, side_by_side=True) as view:
        text = _run(params, view)
    click.echo(text)


def _run(params: ExportParams, view: ProgressView) -> str:
    """Export, or plan it; returns the text for standard output."""
    from cli.commands.export_report import download_text, plan_text
    from cli.run.devices import Hardware, engines_of
    from cli.run.served import with_encoder
    from cli.run.stage_settings import settings_of
    from export import workflow
    from export.options import ExportOptions
    from pipeline.memory.capacity import gpus_free

    _require_possible(params)
    source, repository, as_json = params.source, params.repository, params.report.as_json
    try:
        if repository.dry_run and (download := _to_download(source)) and download.total:
            return json.dumps(download.described()) if as_json else download_text(download)
        origin = _located(source, view)
        checkpoint = with_encoder(origin.open(), params.stages)
        hardware = Hardware.measure(gpu=bool(gpus_free(os.environ)))
        engines = engines_of(params.stages, checkpoint.family, hardware, exporting=True)
        settings = settings_of(checkpoint, params.stages, engines)
        options = ExportOptions.of(settings, repository.check)
        if repository.dry_run:
            plan = workflow.plan(checkpoint, repository.output, options, view)
            return plan.model_dump_json() if as_json else plan_text(plan)
        manifest = workflow.export(
            checkpoint,
            repository.output,
            options,
            view,
            settings=settings,
            origin=origin,
            overwrite=repository.overwrite,
        )
    except OSError as error:
        # Usually the disk is full or not writable; the error names the path.
        raise OutputError(f"the repository cannot be written: {error}") from error
    return manifest.model_dump_json() if as_json else str(repository.output)


def _to_download(source: SourceGroup) -> Download | None:
    from pipeline.checkpoint.hub import missing

    return missing(source.model_path, source.revision, allow_pickle=source.allow_pickle)


def _located(source: SourceGroup, view: ProgressView) -> Origin:
    from export.cache import open_cache
    from export.pickles import without_pickles
    from pipeline.checkpoint.hub import locate

    def on_progress(text: str) -> None:
        view.message("download", text)

    origin = locate(
        source.model_path, source.revision, on_progress, allow_pickle=source.allow_pickle
    )
    return without_pickles(origin, open_cache()) if source.allow_pickle else origin


def _require_possible(params: ExportParams) -> None:
    """Raise ``InputError`` for what this machine cannot build, or for graphs that can be exported
    but not loaded by the flavour.
    """
    from cli.run.devices import flavour_of
    from export.tensorrt import require_builder, require_targets

    stages = params.stages
    require_targets(params.repository.check)
    if flavour_of(stages) == "tensorrt":
        require_builder()
        return
    for field, uses_bf16 in (
        ("vae_precision", stages.vae_precision == "bf16" and stages.vae_engine != "torch"),
        (
            "text_encoder_precisions",
            "bf16" in stages.text_encoder_precisions and stages.encoder_engine != "torch",
        ),
    ):
        if uses_bf16:
            raise InputError(
                field, "bf16 needs the flavour tensorrt: ONNX Runtime has no bf16 on a CPU"
            )


@click.pass_context
def _inspect(ctx: click.Context, /, repository: Path, **_: object) -> None:
    from cli.commands.export_report import manifest_text
    from export.manifest import Manifest

    report = _report_as(ctx, load(ctx, RepositoryParams).report)
    manifest = Manifest.load(repository)
    click.echo(manifest.model_dump_json() if report.as_json else manifest_text(manifest))


@click.pass_context
def _verify(ctx: click.Context, /, repository: Path, **_: object) -> None:
    from export.verification import verify

    report = _report_as(ctx, load(ctx, RepositoryParams).report)
    with choose_view(quiet=report.quiet, side_by_side=True) as view:
        manifest = verify(repository, view)
    click.echo(manifest.model_dump_json() if report.as_json else str(repository))


def _report_as(ctx: click.Context, report: ReportGroup) -> ReportGroup:
    App.of(ctx).style = Style(verbose=report.verbose, as_json=report.as_json)
    return report
