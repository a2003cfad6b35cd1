"""A program under strace: which addresses it and all its children connect or send to."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from pathlib import Path

import psutil

from pipeline.system.telemetry import OFFLINE

_STRACE = ("strace", "-f", "-qq", "--seccomp-bpf", "-s", "128")
_CALLS = "trace=connect,sendto,sendmsg,sendmmsg"
_TARGET = re.compile(r'sin6?_port=htons\((\d+)\).*?"([0-9a-fA-F:.]+)"')
_DNS = 53
# ONNX Runtime does not report where one of these is set, so that a test would prove nothing.
_CI = {
    "CI",
    "TF_BUILD",
    "GITHUB_ACTIONS",
    "GITLAB_CI",
    "CIRCLECI",
    "TRAVIS",
    "JENKINS_URL",
    "CODEBUILD_BUILD_ID",
    "BUILDKITE",
    "TEAMCITY_VERSION",
    "APPVEYOR",
    "BITBUCKET_BUILD_NUMBER",
}


@dataclass(frozen=True)
class Run:
    """A program that is running, or that has ended; ``log`` is strace's."""

    process: subprocess.Popen[str]
    log: Path
    home: Path

    @property
    def outward(self) -> list[str]:
        """What left the machine, or asked for a name: ``ADDRESS:PORT`` per system call."""
        targets = (_TARGET.search(line) for line in self.log.read_text().splitlines())
        return [f"{found[2]}:{found[1]}" for found in targets if found and _leaves(found)]

    @property
    def reports(self) -> list[str]:
        """Files of libraries that report: ONNX Runtime's device id and its queue of events."""
        folder = self.home / ".cache" / "Microsoft"
        return [str(path.relative_to(self.home)) for path in folder.rglob("*") if path.is_file()]

    def stop(self, number: int) -> int:
        """Send a signal to the program itself, and return its exit code."""
        (program,) = psutil.Process(self.process.pid).children()
        program.send_signal(number)
        return self.process.wait(60)


def unavailable() -> str | None:
    """Why no program can be watched here."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    done = subprocess.run(
        [*_STRACE, "-e", _CALLS, "true"], capture_output=True, text=True, timeout=60
    )
    return done.stderr.strip() or None


@contextmanager
def watched(program: Sequence[str], folder: Path, **variables: str) -> Iterator[Run]:
    """Run ``program`` with a home in ``folder`` and no variable that stops a report."""
    home, log = folder / "home", folder / "strace"
    home.mkdir()
    dropped = {*OFFLINE, *_CI, "XDG_CACHE_HOME"}
    env = {name: value for name, value in os.environ.items() if name not in dropped}
    env |= {"HOME": str(home), **variables}
    command = [*_STRACE, "-e", _CALLS, "-o", str(log), *program]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen(command, env=env, **pipes) as process:
        try:
            yield Run(process, log, home)
        finally:
            for child in psutil.Process(process.pid).children() if process.poll() is None else ():
                child.kill()


def _leaves(found: re.Match[str]) -> bool:
    port, address = int(found[1]), ip_address(found[2])
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or address
    # A name server on this machine asks others in turn.
    return port == _DNS or not (address.is_loopback or address.is_unspecified)
