"""``triton-video export``: a checkpoint into a model repository, and what is in one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from cli.output.progress import ProgressView, choose_view
from cli.params.groups import EXPORT_GROUPS, REPORT_GROUPS, ExportParams, ReportParams, SourceParams
from cli.params.options import GroupedCommand, sifted_of, typed
from cli.params.sources import check_groups, heard
from pipeline.errors import InputError, OutputError

if TYPE_CHECKING:
    from export.manifest import Manifest
    from export.options import ExportOptions
    from pipeline.checkpoint.hub import Download, Origin

HELP = """Turn a checkpoint into a model repository that Triton serves.

Text encoders and VAE become ONNX graphs, and plans for TensorRT; the transformer stays in torch. The path of the
repository is all that is printed on standard output. A run that failed or was killed goes on where it was.
"""
INSPECT_HELP = """Show what an exported repository holds: where it comes from, its parts, their precision and parity."""
VERIFY_HELP = """Compare each file of an exported repository, and of its checkpoint, with the manifest;
    then graphs with torch.
    """


class ExportCommand(GroupedCommand, click.Group):
    """Exports, unless one of its commands is named."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_options(ctx, formatter)
        self.format_commands(ctx, formatter)


def command() -> click.Command:
    """The click command; its options are made from the models in `cli.params.groups`."""
    commands = [
        GroupedCommand(name, REPORT_GROUPS, callback=callback, help=text)
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
        EXPORT_GROUPS,
        callback=_export,
        help=HELP,
        invoke_without_command=True,
        commands=commands,
    )


@click.pass_context
def _export(ctx: click.Context, /, **values: object) -> None:
    if ctx.invoked_subcommand:
        if typed(values) or sifted_of(ctx).problems:
            raise click.UsageError(f"put the options of {ctx.invoked_subcommand} after its name")
        return
    groups = check_groups(heard(ctx, values, EXPORT_GROUPS), EXPORT_GROUPS)
    source, params = cast(SourceParams, groups["source"]), cast(ExportParams, groups["export"])
    report = _reporting(ctx, groups["report"])
    with choose_view(quiet=report.quiet, side_by_side=True) as view:
        text = _run(source, params, view, as_json=report.as_json)
    click.echo(text)


def _run(source: SourceParams, params: ExportParams, view: ProgressView, *, as_json: bool) -> str:
    """What goes to standard output."""
    from cli.commands.export_report import download_text, plan_text
    from export import workflow

    options = _options(params)
    try:
        if params.dry_run and (download := _to_download(source)) and download.total:
            return json.dumps(download.described()) if as_json else download_text(download)
        origin = _located(source, view)
        if params.dry_run:
            plan = workflow.plan(origin.open(), params.output, options, view)
            return plan.model_dump_json() if as_json else plan_text(plan)
        manifest = _exported(origin, params, options, view)
    except OSError as error:
        # Most often a disk that is full or not ours; the error names the path.
        raise OutputError(f"the repository cannot be written: {error}") from error
    return manifest.model_dump_json() if as_json else str(params.output)


def _to_download(source: SourceParams) -> Download | None:
    from pipeline.checkpoint.hub import missing

    return missing(source.model_path, source.revision, allow_pickle=source.allow_pickle)


def _located(source: SourceParams, view: ProgressView) -> Origin:
    from export.cache import open_cache
    from export.pickles import without_pickles
    from pipeline.checkpoint.hub import locate

    def tell(text: str) -> None:
        view.message("download", text)

    origin = locate(source.model_path, source.revision, tell, allow_pickle=source.allow_pickle)
    return without_pickles(origin, open_cache()) if source.allow_pickle else origin


def _exported(
    origin: Origin, params: ExportParams, options: ExportOptions, view: ProgressView
) -> Manifest:
    from cli.run.stage_settings import settings_of
    from export.workflow import export

    checkpoint = origin.open()
    settings = settings_of(checkpoint, params)
    return export(
        checkpoint,
        params.output,
        options,
        view,
        settings=settings,
        origin=origin,
        overwrite=params.overwrite,
    )


def _options(params: ExportParams) -> ExportOptions:
    from export.options import ExportOptions
    from export.tensorrt import require_builder, require_targets

    require_targets(params.check)
    if params.flavour == "tensorrt":
        require_builder()
    options = ExportOptions(**{name: getattr(params, name) for name in ExportOptions.model_fields})
    _require_kernels(options)
    return options


def _require_kernels(options: ExportOptions) -> None:
    """Raises ``InputError`` for graphs that export well and that the flavour's runtime then
    cannot load.
    """
    if options.flavour == "tensorrt":
        return
    for field, asked in (
        ("vae_precision", options.vae_precision == "bf16" and options.vae_engine != "torch"),
        ("text_encoder_precisions", "bf16" in options.text_encoder_precisions),
    ):
        if asked:
            raise InputError(
                field, "bf16 needs the flavour tensorrt: ONNX Runtime has none of it on a CPU"
            )


@click.pass_context
def _inspect(ctx: click.Context, /, repository: Path, **values: object) -> None:
    from cli.commands.export_report import manifest_text
    from export.manifest import Manifest

    report = _report(ctx, values)
    manifest = Manifest.load(repository)
    click.echo(manifest.model_dump_json() if report.as_json else manifest_text(manifest))


@click.pass_context
def _verify(ctx: click.Context, /, repository: Path, **values: object) -> None:
    from export.verification import verify

    report = _report(ctx, values)
    with choose_view(quiet=report.quiet, side_by_side=True) as view:
        manifest = verify(repository, view)
    click.echo(manifest.model_dump_json() if report.as_json else str(repository))


def _report(ctx: click.Context, values: dict[str, Any]) -> ReportParams:
    groups = check_groups(heard(ctx, values, REPORT_GROUPS), REPORT_GROUPS)
    return _reporting(ctx, groups["report"])


def _reporting(ctx: click.Context, group: object) -> ReportParams:
    report, style = cast(ReportParams, group), ctx.meta["style"]
    style.verbose, style.as_json = report.verbose, report.as_json
    return report
