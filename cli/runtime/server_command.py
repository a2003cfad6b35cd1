"""The command line and environment of an embedded tritonserver."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from cli.runtime.distribution import Distribution
from cli.runtime.endpoints import Endpoint
from cli.runtime.variables import for_stages
from pipeline.system.child_environment import child_environment
from pipeline.system.hidden_devices import hide


def arguments(
    distribution: Distribution,
    *,
    repository: Path,
    loaded_from: Path,
    backends: Path,
    endpoint: Endpoint,
    shm_prefix: str,
    models: int,
    cache_bytes: int,
    gpus: int = 0,
    traces_to: str | None = None,
) -> list[str]:
    """Return the command line that loads all ``models`` in parallel and listens at ``endpoint``.

    ``loaded_from`` is a path of ``repository`` without spaces. The server takes no memory of the
    machine's ``gpus`` GPUs if it needs none.

    Requests with a ``traceparent`` are traced; the spans are sent to the collector ``traces_to``
    (OTLP over HTTP).
    """
    options = {
        "model-repository": loaded_from,
        "backend-directory": backends,
        "cache-directory": distribution.caches,
        "cache-config": f"local,size={cache_bytes}",
        "model-load-thread-count": max(4, models),
        "strict-readiness": "true",
        "allow-gpu-metrics": str(distribution.gpu_metrics).lower(),
        "exit-timeout-secs": 5,
        **endpoint.options(),
    }
    # /dev/shm has only 64 MB in many containers: start small and grow by the size of a video's
    # latents.
    python = {
        "shm-default-byte-size": 4 << 20,
        "shm-growth-byte-size": 16 << 20,
        "shm-region-prefix-name": shm_prefix,
    }
    return [
        str(distribution.server),
        "--disable-auto-complete-config",
        *(f"--{name}={value}" for name, value in options.items()),
        *(_without_gpus(gpus) if needs_no_gpu(repository) else ()),
        *(f"--backend-config=python,{name}={value}" for name, value in python.items()),
        *(f"--trace-config={setting}" for setting in _tracing(traces_to)),
    ]


def _without_gpus(gpus: int) -> list[str]:
    """Return the options of a server that makes no CUDA context.

    The pools, of 64 MB on each GPU and 256 MB on the host, and access between GPUs each need one.
    """
    pools = [f"--cuda-memory-pool-byte-size={number}:0" for number in range(gpus)]
    return ["--enable-peer-access=false", "--pinned-memory-pool-byte-size=0", *pools]


def needs_no_gpu(repository: Path) -> bool:
    """Return whether all models of a repository run on the CPU or in Python.

    Our stages use GPUs in their own processes.
    """
    configs = [path.read_text(errors="replace") for path in repository.glob("*/config.pbtxt")]
    return all("KIND_CPU" in text or 'platform: "ensemble"' in text for text in configs)


def _tracing(collector: str | None) -> list[str]:
    if not collector:
        return []
    # Rate 0: Triton starts no traces itself.
    url = f"opentelemetry,url={collector.rstrip('/')}/v1/traces"
    return ["mode=opentelemetry", "rate=0", "level=TIMESTAMPS", url]


def environment(
    distribution: Distribution,
    *,
    repository: Path,
    libpython_folder: Path,
    inherited: Mapping[str, str],
) -> dict[str, str]:
    """Return the environment of the server and its models.

    It has the allowed variables of ``inherited``, and the paths of the server's libraries and of
    this interpreter. The server does not see the GPUs if it needs none, unless it has metrics for
    them.
    """
    allowed = for_stages(inherited)
    if needs_no_gpu(repository) and not distribution.gpu_metrics:
        allowed = hide(allowed)
    libraries = [str(libpython_folder), str(distribution.libraries)]
    libraries.append(inherited.get("LD_LIBRARY_PATH", ""))
    # The stub runs the first python3 on the PATH, and with it that interpreter's packages.
    programs = [f"{sys.prefix}/bin", inherited.get("PATH", os.defpath)]
    return child_environment(allowed) | {
        "LD_LIBRARY_PATH": ":".join(filter(None, libraries)),
        "PATH": ":".join(programs),
        # Paths may have any character; the interpreter in a stub would assume ASCII.
        "PYTHONUTF8": "1",
        "LC_ALL": "C.UTF-8",
    }
