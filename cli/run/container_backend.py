"""The backend of a command whose Triton runs in a container."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from cli.run.backend import Backend, cache_errors
from cli.run.checkpoints import bundled_checkpoint
from cli.run.devices import Hardware, flavour_of
from cli.run.stage_settings import stage_settings
from cli.runtime.base import LastingServer, Server, import_client
from cli.runtime.container import ContainerServer, prepare
from cli.runtime.container_command import Container
from cli.runtime.engine import Engine, default_image, has_gpus
from cli.runtime.places import new_name, sockets
from cli.runtime.preparing import Request
from cli.runtime.supervisor import SupervisedServer
from pipeline.checkpoint.hub import locate, missing
from pipeline.errors import InputError
from pipeline.system.cache_folder import cache_folder

if TYPE_CHECKING:
    from cli.params.groups import StartGroup
    from cli.params.stage_group import StageGroup
    from pipeline.checkpoint.folder import Checkpoint
    from pipeline.settings import Flavour, StageSettings

_REPOSITORY = "$REPOSITORY"


class ContainerBackend(Backend):
    """Prepares and serves the repository in containers of ``image``; only the client runs here."""

    in_container = True

    def __init__(self, engine: Engine, image: str | None):
        """``image`` None is this version's image for this machine."""
        gpus = has_gpus()
        self.engine = engine
        self._gpus = gpus
        self._image = image or default_image(version("triton-video"), gpus)
        self._container: Container | None = None

    def require_flavour(self, flavour: Flavour) -> None:
        if flavour == "tensorrt" and not self._gpus:
            raise InputError(
                "flavour",
                "tensorrt builds on the GPU that serves, and this machine has none; choose python",
            )
        if flavour != "python" and self._image == default_image(version("triton-video"), False):
            raise InputError(
                "flavour",
                f"{flavour} needs a backend that {self._image} does not have; choose python, or "
                f"--image {default_image(version('triton-video'), True)}",
            )

    def share_imports(self, checkpoint: Checkpoint) -> None:
        """Do nothing: the containers have processes of their own."""

    def prepare(
        self, checkpoint: Checkpoint, settings: StageSettings, on_progress: Callable[[str], None]
    ) -> Path:
        self.engine.require_image(self._image)
        import_client()
        self._container = self._container_for(checkpoint, settings)
        with cache_errors():
            return prepare(self._container, _request(checkpoint, settings), on_progress)

    def has_graphs(self, checkpoint: Checkpoint, settings: StageSettings) -> bool:  # noqa: ARG002
        """Return True: the graphs are those of the container's packages, and exported in one."""
        return True

    def server(
        self, repository: Path, on_progress: Callable[[str], None]
    ) -> AbstractContextManager[Server]:
        return ContainerServer(repository, self._prepared, on_progress=on_progress)

    def lasting_server(
        self, repository: Path, on_progress: Callable[[str], None], hang_timeout_s: float
    ) -> LastingServer:
        make = partial(ContainerServer, container=self._prepared)
        return SupervisedServer(
            repository, on_progress=on_progress, make=make, hang_timeout_s=hang_timeout_s
        )

    def script(self, start: StartGroup, stages: StageGroup) -> str:
        """Return the commands of a run: one container prepares the repository, another serves it.

        Raises ``InputError`` for a checkpoint that has to be downloaded first.
        """
        self.require_flavour(flavour_of(stages))
        model = start.model_path or bundled_checkpoint()
        download = missing(model)
        if download and download.total:
            raise InputError(
                "dry_run", f"{model} is not on this machine; run once without --dry-run"
            )
        checkpoint = locate(model).open()
        settings = stage_settings(checkpoint, stages, Hardware.measure(gpu=self._gpus))
        container = self._container_for(checkpoint, settings)
        preparing = container.preparing(new_name(), _request(checkpoint, settings))
        name = new_name()
        serving = container.serving(name, _REPOSITORY, sockets(name))
        quoted = (f'"{word}"' if word == _REPOSITORY else shlex.quote(word) for word in serving)
        return "\n".join(
            (
                "# Prepares the model repository, or finds it in the cache; prints "
                '{"repository": PATH} at the end',
                shlex.join(preparing),
                "# Serves it until its standard input ends",
                " ".join(quoted),
            )
        )

    def _container_for(self, checkpoint: Checkpoint, settings: StageSettings) -> Container:
        return Container(
            engine=self.engine, image=self._image, cache=cache_folder(),
            checkpoint=checkpoint.path.resolve(), gpus=self._gpus, variables=os.environ,
            loras=tuple(Path(file.path) for file in settings.loras),
        )  # fmt: skip

    @property
    def _prepared(self) -> Container:
        assert self._container is not None, "the repository has not been prepared"
        return self._container


def _request(checkpoint: Checkpoint, settings: StageSettings) -> str:
    return Request(
        str(checkpoint.path.resolve()), checkpoint.info.name, settings.model_dump_json()
    ).text()
