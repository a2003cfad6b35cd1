"""The environment variables that a Triton and its models may see: an allow-list.

It has no secrets; a variable with the name of a secret is excluded even if its prefix is allowed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Set

from pipeline.system.telemetry import OFFLINE

_ANYWHERE = OFFLINE.keys() | {
    *("NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES", "NVIDIA_TF32_OVERRIDE", "TZ"),
}
_ANYWHERE_PREFIXES = (
    *("CUDA_", "NCCL_", "GLOO_", "TORCH_", "TORCHINDUCTOR_", "PYTORCH_"),
    *("OMP_", "MKL_", "OPENBLAS_", "KMP_", "GOMP_"),
)
# These name folders of this machine, or services that a container cannot reach.
_HERE = frozenset(
    {"HOME", "USER", "XDG_CACHE_HOME", "TRITON_VIDEO_CACHE", "HF_HOME", "HF_HUB_CACHE"}
)
_HERE_PREFIXES = ("OTEL_SERVICE_", "OTEL_RESOURCE_", "OTEL_BSP_")
_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|AUTH")


def for_containers(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that mean the same in a container."""
    return _allowed(variables, _ANYWHERE, _ANYWHERE_PREFIXES)


def for_stages(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables for a Triton on this machine."""
    return _allowed(variables, _ANYWHERE | _HERE, (*_ANYWHERE_PREFIXES, *_HERE_PREFIXES))


def _allowed(
    variables: Mapping[str, str], names: Set[str], prefixes: tuple[str, ...]
) -> dict[str, str]:
    return {
        name: value
        for name, value in variables.items()
        if (name in names or name.startswith(prefixes)) and not _SECRET.search(name)
    }
