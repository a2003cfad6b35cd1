"""The command line, the client and the proxy start without torch: proved in fresh interpreters."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# Each takes from a tenth of a second to several seconds to import, or is absent where only the core
# is installed.
HEAVY = {
    "accelerate",
    "asyncpg",
    "av",
    "diffusers",
    "imageio",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "pytriton",
    "safetensors",
    "tensorrt",
    "tensorrt_rtx",
    "tokenizers",
    "torch",
    "transformers",
}

# On a line of its own, whatever the command printed before it.
REPORT = "print('\\n' + json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
IMPORT = "import importlib; importlib.import_module({!r})"
COMMAND = """
from cli.main import main
sys.argv = ["triton-video", *{!r}]
try:
    main()
except SystemExit as end:
    assert not end.code, f"exit code {{end.code}}"
"""


def loaded_packages(code: str) -> set[str]:
    """The top-level packages in ``sys.modules`` of a new interpreter that ran ``code``."""
    program = "\n".join(["import sys", code, "import json", REPORT])
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "module",
    [
        "cli.main",
        "export.tensorrt",
        "pipeline",
        "pipeline.client",
        "pipeline.errors",
        "pipeline.families",
        "proxy.app",
        "pipeline.client.aio",
    ],
)
def test_import_is_light(module):
    assert not loaded_packages(IMPORT.format(module)) & HEAVY


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["generate", "--help"],
        ["serve", "--help"],
        ["export", "--help"],
        ["models"],
        ["config", "show", "generate"],
        ["completion", "bash"],
    ],
    ids=" ".join,
)
def test_light_command_loads_nothing_heavy(arguments):
    assert not loaded_packages(COMMAND.format(arguments)) & HEAVY
