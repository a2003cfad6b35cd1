"""The export behind a running `serve`: it starts in torch, and switches to the graphs later."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from cli.params.stage_group import StageGroup
from cli.run.backend import Backend
from cli.run.memory import fitting_settings
from cli.run.served import with_encoder
from cli.runtime.engine import count_gpus
from cli.runtime.kept_server import ignore, settings_in
from cli.runtime.preparing import Request
from pipeline.checkpoint.folder import Checkpoint
from pipeline.ensemble.stages import DIT
from pipeline.errors import InputError
from pipeline.families import Bounds, ModelInfo
from pipeline.system.child_environment import child_environment
from pipeline.system.own_modules import FOLDER, command

logger = logging.getLogger(__name__)

REPORT_EVERY_S = 60.0


def missing_export(
    backend: Backend, repository: Path, stages: StageGroup, bounds: Bounds
) -> Request | None:
    """Return the export that ``repository`` was prepared without; None if there is none, or on a
    GPU, where torch is the default.

    Call it before the repository is served: memory is planned with what is free now.
    """
    settings = settings_in(repository)
    if settings is None or "torch" not in (settings.encoder_engine, settings.vae_engine):
        return None
    if count_gpus():
        return None
    checkpoint = with_encoder(Checkpoint.open(Path(settings.checkpoint)), stages)
    try:
        with_graphs = fitting_settings(
            checkpoint,
            stages,
            None,
            ignore,
            verbose=False,
            in_container=backend.in_container,
            bounds=bounds,
        )
    except InputError as error:
        logger.warning("torch keeps running encoders and VAE, and nothing is exported: %s", error)
        return None
    if backend.has_graphs(checkpoint, with_graphs):
        return None
    # The folder in a hub's cache does not show the model's name.
    name = ModelInfo.load(repository / DIT.name / "1").name
    return Request(str(checkpoint.path), name, with_graphs.model_dump_json())


class BackgroundExport:
    """Runs an export at the lowest priority, and calls ``on_done`` with the model repository.

    The process ends with the block, and with this process, even if that is killed. A failure is
    logged.
    """

    def __init__(self, request: Request, on_done: Callable[[Path], None]):
        self._request = request
        self._on_done = on_done
        self._stopping = False
        self._repository: Path | None = None
        self._reason = ""
        self._reported = time.monotonic()
        self._thread = threading.Thread(target=self._follow, name="background-export")

    def __enter__(self) -> Self:
        # From the main thread, which lives as long as this process: the kernel ends the export with
        # the thread that started it.
        self._process = subprocess.Popen(
            command("cli.runtime.preparing", self._request.text(), str(os.getpid())),
            cwd=FOLDER,
            env=child_environment(os.environ) | {"OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        logger.info(
            "torch runs encoders and VAE while their graphs are exported in the background; "
            "--no-background-export exports first"
        )
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopping = True
        self._process.kill()
        self._thread.join()
        self._process.wait()

    def _follow(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._read(line.strip())
        code = self._process.wait()
        if self._stopping:
            return
        if self._repository is None:
            logger.error(
                "the graphs were not exported, and torch keeps running encoders and VAE: %s",
                self._reason or f"the export ended with exit code {code}",
            )
            return
        logger.info("the graphs are exported; Triton restarts with them when no job runs")
        self._on_done(self._repository)

    def _read(self, line: str) -> None:
        try:
            message = json.loads(line)
        except ValueError:  # of a library, or a traceback
            self._reason = line or self._reason
            return
        match message:
            case {"repository": str(path)}:
                self._repository = Path(path)
            case {"error": str(text)}:
                self._reason = text
            case {"progress": str(text)} if time.monotonic() - self._reported >= REPORT_EVERY_S:
                self._reported = time.monotonic()
                logger.info("exporting in the background: %s", text)
            case _:
                pass
