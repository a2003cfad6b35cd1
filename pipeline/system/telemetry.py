"""Environment variables that turn off the telemetry of libraries, for every process.

ONNX Runtime 1.29 and later writes a device id below ``~/.cache/Microsoft`` and sends events to
Microsoft unless ``ORT_DISABLE_TELEMETRY`` is set before it is imported; huggingface_hub and hf_xet
report downloads. Libraries read these variables on import, so they must be set before that. A value
set by the operator takes precedence.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from types import MappingProxyType

OPT_OUT: Mapping[str, str] = MappingProxyType(
    {
        "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime
        "HF_HUB_DISABLE_TELEMETRY": "1",  # huggingface_hub, diffusers, transformers, hf_xet
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        "HF_XET_TELEMETRY_ENABLED": "false",
        "DISABLE_SAFETENSORS_CONVERSION": "1",  # transformers asks a service of the hub to convert
        "DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",  # a convention of several tools: consoledonottrack.com
    }
)
"""Variables for a process that may download a checkpoint: the command line itself."""

OFFLINE: Mapping[str, str] = MappingProxyType({**OPT_OUT, "HF_HUB_OFFLINE": "1"})
"""Variables for a process that reads a checkpoint from a folder: stages, ranks and exports.

A file of a checkpoint may name repositories on a hub, which transformers would otherwise download.
"""


def opt_out(
    variables: Mapping[str, str] = OPT_OUT, environment: MutableMapping[str, str] = os.environ
) -> None:
    """Set those ``variables`` in ``environment`` that have no value yet.

    An empty value counts as none, because ONNX Runtime treats it as permission to report.
    """
    for name, value in variables.items():
        environment[name] = environment.get(name) or value


def offline(environment: Mapping[str, str]) -> dict[str, str]:
    """Return a copy of ``environment`` for a child process that does not need a hub."""
    child = dict(environment)
    opt_out(OFFLINE, child)
    return child
