"""The process from which a run's torch processes are forked, under a keeper."""

from __future__ import annotations

import os
import time
from pathlib import Path

from cli.runtime.keeper import Launch
from cli.runtime.kept_process import KeptProcess
from cli.runtime.places import new_name, work_dir
from cli.runtime.variables import for_stages
from pipeline.checkpoint.folder import Checkpoint
from pipeline.errors import ServerError
from pipeline.families.parts import VAE_DECODER
from pipeline.system.child_environment import child_environment
from pipeline.system.forks import forking
from pipeline.system.own_modules import FOLDER, command
from pipeline.system.starting import Start

FILE_NAME = "forks"
START_S = 10.0
_POLL_S = 0.01


class KeptForkServer:
    """Imports torch once for all processes of a run, in the background from here on.

    It ends with `stop`, or with this process, and its forks with it. Raises ServerError if there is
    no folder for its socket.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        name = new_name()
        self._log = work_dir(name) / "server.log"
        self.path: Path = work_dir(name) / "sockets" / FILE_NAME
        """The socket of `pipeline.system.forks`."""
        argv = command("pipeline.system.fork_server", str(self.path), *modules_for(checkpoint))
        environment = child_environment(for_stages(os.environ)) | {
            "PATH": os.environ.get("PATH", os.defpath), "PYTHONUTF8": "1", "LC_ALL": "C.UTF-8",
        }  # fmt: skip
        self._process = KeptProcess(
            Launch(argv, environment, str(FOLDER), str(work_dir(name)), {}, ["sockets"], f"{name}-")
        )

    def ready(self) -> Start:
        """Return how its forks are started, once it listens. Raises ServerError if it does not."""
        deadline = time.monotonic() + START_S
        while not self.path.exists():
            self._process.wait(_POLL_S)
            if self._process.ended or time.monotonic() > deadline:
                log = self._log.read_text(errors="replace") if self._log.exists() else ""
                *_, reason = log.splitlines() or ["it did not listen"]
                raise ServerError(
                    f"the process that imports torch did not start: {reason}", details=log
                )
        return forking(self.path)

    def stop(self) -> None:
        """End it and all its forks at once."""
        self._process.stop()


def modules_for(checkpoint: Checkpoint) -> tuple[str, ...]:
    """Return what the torch processes of a checkpoint import, with its tokenizers' package first.

    A name after a colon is a class that its package imports when it is asked for it.
    """
    family, classes = checkpoint.family, checkpoint.classes
    encoders = {part.component for part in family.parts} - {VAE_DECODER.component}
    return (
        "transformers:AutoTokenizer",
        "pipeline.ranks.denoiser",
        "pipeline.ranks.vae",
        f"diffusers:{classes[VAE_DECODER.component]}",
        "pipeline.ranks.encoder",
        *(f"transformers:{classes[name]}" for name in sorted(encoders)),
        "export.trials",
        "export.weights.comparing",
        "export.weights.plain",
    )
