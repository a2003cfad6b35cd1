"""The preparation of a model repository: locate the checkpoint, fit it into memory, export it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cli.params.stage_group import StageGroup
from cli.run.backend import Backend
from cli.run.checkpoints import bundled_checkpoint
from cli.run.devices import flavour_of
from cli.run.memory import fitting_settings
from cli.run.served import as_served
from export.progress import ProgressView
from pipeline.checkpoint.folder import Checkpoint
from pipeline.checkpoint.hub import locate
from pipeline.families import Bounds, VideoRequest


def prepare(
    backend: Backend,
    model_path: Path | None,
    stages: StageGroup,
    view: ProgressView,
    *,
    verbose: bool,
    bounds: Bounds | None = None,
    request_for: Callable[[Checkpoint], VideoRequest] | None = None,
    export_first: bool = True,
    share_imports: bool = False,
) -> Path:
    """Return the model repository for the checkpoint at ``model_path`` (None: the bundled one).

    ``request_for`` checks the opened checkpoint and returns the request that memory is planned for;
    without it that is the model's default video. ``bounds`` are a server's limits of a request.
    Without ``export_first``, torch runs what was never exported, where the options allow it. With
    ``share_imports``, the backend must be closed in the end (`Backend.share_imports`).

    Raises ``CheckpointError``, ``InputError``, ``OutputError`` or ``ServerError``.
    """

    def on_progress(text: str) -> None:
        view.message("prepare", text)

    backend.require_flavour(flavour_of(stages))
    checkpoint = locate(model_path or bundled_checkpoint(), None, on_progress).open()
    checkpoint = as_served(checkpoint, stages)
    request = request_for(checkpoint) if request_for else None
    if share_imports:
        backend.share_imports(checkpoint)
    settings = fitting_settings(
        checkpoint,
        stages,
        request,
        view.note,
        verbose=verbose,
        in_container=backend.in_container,
        bounds=bounds,
        has_graphs=lambda settings: export_first or backend.has_graphs(checkpoint, settings),
    )
    view.message("prepare", "model repository")
    return backend.prepare(checkpoint, settings, on_progress)
