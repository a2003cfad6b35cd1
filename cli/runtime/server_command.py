"""The command line and the environment of an embedded tritonserver."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

import pipeline
from cli.runtime.distribution import Distribution
from cli.runtime.ports import HOST, Ports

_KEPT_VARIABLES = frozenset(
    {"HOME", "USER", "TMPDIR", "TZ", "LANG", "XDG_CACHE_HOME", "http_proxy", "https_proxy", "no_proxy"}
    | {"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"}
)
_KEPT_PREFIXES = (
    *("TRITON_VIDEO_", "HF_", "TRANSFORMERS_", "DIFFUSERS_", "TOKENIZERS_", "OTEL_", "LC_"),
    *("CUDA_", "NVIDIA_", "NCCL_", "GLOO_", "TORCH", "PYTORCH_", "OMP_", "MKL_", "OPENBLAS_", "KMP_", "GOMP_"),
)


def arguments(
    distribution: Distribution,
    *,
    repository: Path,
    backends: Path,
    ports: Ports,
    shm_prefix: str,
    models: int,
    cache_bytes: int,
    host: str = HOST,
    traces_to: str | None = None,
) -> list[str]:
    """The command line that loads all of a repository's `models` at once and opens its ports at `host` only.

    Requests that come with a ``traceparent`` are traced, and the spans sent to the collector `traces_to` (OTLP, HTTP).
    """
    options = {
        "model-repository": repository,
        "backend-directory": backends,
        "cache-directory": distribution.caches,
        "cache-config": f"local,size={cache_bytes}",
        # Explicit, so that a model whose stub has died can be unloaded and loaded again.
        "model-control-mode": "explicit",
        "load-model": "*",
        "model-load-thread-count": max(4, models),
        "strict-readiness": "true",
        "allow-gpu-metrics": str(distribution.gpu_metrics).lower(),
        "exit-timeout-secs": 5,
        "http-address": host,
        "http-port": ports.http,
        "grpc-address": host,
        "grpc-port": ports.grpc,
        "metrics-address": host,
        "metrics-port": ports.metrics,
    }
    # /dev/shm is only 64 MB in many containers: start small and grow by what the latents of a video take.
    python = {
        "shm-default-byte-size": 4 << 20,
        "shm-growth-byte-size": 16 << 20,
        "shm-region-prefix-name": shm_prefix,
    }
    return [
        str(distribution.server),
        "--disable-auto-complete-config",
        *(f"--{name}={value}" for name, value in options.items()),
        *(f"--backend-config=python,{name}={value}" for name, value in python.items()),
        *(f"--trace-config={setting}" for setting in _tracing(traces_to)),
    ]


def _tracing(collector: str | None) -> list[str]:
    if not collector:
        return []
    # Rate 0: of its own accord Triton begins no trace.
    url = f"opentelemetry,url={collector.rstrip('/')}/v1/traces"
    return ["mode=opentelemetry", "rate=0", "level=TIMESTAMPS", url]


def environment(distribution: Distribution, *, libpython_folder: Path, inherited: Mapping[str, str]) -> dict[str, str]:
    """The server's variables: what finds its libraries and our interpreter, and the `inherited` ones models read."""
    kept = {
        name: value for name, value in inherited.items() if name in _KEPT_VARIABLES or name.startswith(_KEPT_PREFIXES)
    }
    libraries = [str(libpython_folder), str(distribution.libraries), inherited.get("LD_LIBRARY_PATH", "")]
    # The stub runs the first python3 on the PATH, and with it that interpreter's packages.
    programs = [f"{sys.prefix}/bin", inherited.get("PATH", os.defpath)]
    kept |= {"LD_LIBRARY_PATH": ":".join(filter(None, libraries)), "PATH": ":".join(programs)}
    # For the processes that models start; the stub itself ignores it.
    folder = checkout()
    return kept | {"PYTHONPATH": str(folder)} if folder else kept


def checkout() -> Path | None:
    """The folder of our packages where they are not installed as a copy, else None.

    The server must run in it: stubs find installed packages by themselves and these by their working directory, which
    is on their ``sys.path``.
    """
    folder = Path(pipeline.__path__[0]).resolve().parent
    installed = {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib")}
    return None if folder in installed else folder
