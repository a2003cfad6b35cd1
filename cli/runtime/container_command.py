"""The command line of a container that prepares or serves a repository, for docker and podman."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cli.runtime.endpoints import Sockets
from cli.runtime.engine import Engine
from cli.runtime.variables import for_containers
from pipeline.checkpoint.regular_files import folders_read
from pipeline.system.telemetry import OFFLINE

LABEL = "triton-video.run"
# Upper limits of a container's own memory file systems; only what is used is allocated.
_TEMPORARY, _SHARED_MEMORY = "8g", "8g"
# NVIDIA's recommendation for GPUs, whose libraries pin memory. Without a GPU an engine may not be
# allowed to set them.
_LIMITS = ("memlock=-1", "stack=67108864")
_TMP = "/tmp"  # noqa: S108 - in the container
_SOCKETS = "/sockets"  # in the container, where a run's folder of sockets is mounted
_PROCESSES = 4096  # more than any pipeline has threads, fewer than a fork bomb needs
_ENGINE_VARIABLES = frozenset(
    {"PATH", "HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "SSH_AUTH_SOCK"}
)
_ENGINE_PREFIXES = ("DOCKER_", "CONTAINER_", "BUILDAH_")


@dataclass(frozen=True)
class Container:
    """The common options of a run's containers. Their only network is loopback."""

    engine: Engine
    image: str
    cache: Path
    checkpoint: Path
    gpus: bool
    variables: Mapping[str, str]
    """The environment of this process; the container gets the variables that stages read."""
    loras: tuple[Path, ...] = ()
    """The files and folders of the LoRAs."""

    def preparing(self, name: str, request: str) -> list[str]:
        """Return the command that prepares the repository; it can write only to the cache."""
        inside = ["-P", "-m", "triton_video", "cli.runtime.preparing", request]
        return self._run(name, [_mount(self.cache)], entrypoint="python3", inside=inside)

    def serving(self, name: str, repository: str, sockets: Sockets) -> list[str]:
        """Return the command that serves a repository at ``sockets`` until standard input ends."""
        mounts = [_mount(self.cache, read_only=True), _mount(sockets.folder, _SOCKETS)]
        words = [
            "triton",
            "--model-repository",
            repository,
            "--host",
            f"unix:{_SOCKETS}",
            "--until-stdin-ends",
        ]
        return self._run(name, mounts, entrypoint="triton-video", inside=words)

    def client_environment(self) -> dict[str, str]:
        """Return the environment of the engine's client: its own variables and the container's."""
        own = {
            name: value
            for name, value in self.variables.items()
            if name in _ENGINE_VARIABLES or name.startswith(_ENGINE_PREFIXES)
        }
        return own | for_containers(self.variables)

    def _run(
        self, name: str, mounts: Iterable[str], *, entrypoint: str, inside: Iterable[str]
    ) -> list[str]:
        all_mounts = [
            *mounts,
            *(
                _mount(folder, read_only=True)
                for path in (self.checkpoint, *self.loras)
                for folder in folders_of(path)
            ),
        ]
        return [
            self.engine.program, "run", "--rm", "--interactive", "--init", "--pull", "never",
            "--name", name, "--label", f"{LABEL}={name}",
            *self._user(), "--cap-drop", "ALL", "--security-opt", "no-new-privileges",
            "--network", "none", "--pids-limit", str(_PROCESSES),
            "--read-only",
            "--tmpfs", f"{_TMP}:rw,nosuid,nodev,mode=1777,size={_TEMPORARY}",
            "--shm-size", _SHARED_MEMORY, *self._gpus(),
            *(word for mount in all_mounts for word in ("--mount", mount)),
            *self._variables(), "--no-healthcheck", "--entrypoint", entrypoint, self.image, *inside,
        ]  # fmt: skip

    def _user(self) -> list[str]:
        user = ["--user", f"{os.getuid()}:{os.getgid()}"]
        rootless = self.engine.name == "podman" and os.getuid() != 0
        return [*(["--userns", "keep-id"] if rootless else []), *user]

    def _gpus(self) -> list[str]:
        if not self.gpus:
            return []
        devices = (
            ["--device", "nvidia.com/gpu=all"]
            if self.engine.name == "podman"
            else ["--gpus", "all"]
        )
        return [*devices, *(word for limit in _LIMITS for word in ("--ulimit", limit))]

    def _variables(self) -> list[str]:
        own = {"HOME": _TMP, "TMPDIR": _TMP, **OFFLINE, "TRITON_VIDEO_CACHE": str(self.cache)}
        # By name only: a value may be a secret, and other users can read a command line.
        passed = sorted(for_containers(self.variables))
        return [
            word
            for text in (*(f"{n}={v}" for n, v in own.items()), *passed)
            for word in ("--env", text)
        ]


def folders_of(checkpoint: Path) -> list[Path]:
    """Return the folders that hold a checkpoint: its own, and that of its blobs in a hub's cache.

    An opened checkpoint has no other links out of its folder. The file of a LoRA is returned as it
    is.
    """
    return [checkpoint, *(folder for folder in folders_read(checkpoint)[1:] if folder.is_dir())]


def _mount(folder: Path, target: Path | str | None = None, *, read_only: bool = False) -> str:
    """Return a mount of ``folder`` at ``target``; by default at the same path as outside.

    Then paths that one side writes are valid on the other.
    """
    words = [
        "type=bind",
        f"source={folder}",
        f"target={target or folder}",
        *(["readonly"] if read_only else []),
    ]
    line = io.StringIO()
    # as CSV, which the engines parse, because a path may contain a comma
    csv.writer(line, lineterminator="").writerow(words)
    return line.getvalue()
