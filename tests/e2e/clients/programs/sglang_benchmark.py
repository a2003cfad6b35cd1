"""Runs sglang's benchmark client without sglang: its own code, over stand-ins for the helpers that
it imports for logs, tables and addresses, which would import torch.

Usage: sglang_benchmark.py FOLDER_OF_BENCHMARKS FLAGS...
"""

import logging
import runpy
import sys
import types
from pathlib import Path


def module(name: str, folder: Path | None = None, **names: object) -> None:
    """Make ``name`` importable: with modules of a folder, or with these names."""
    made = types.ModuleType(name)
    made.__path__ = [str(folder)] if folder else []
    made.__dict__.update(names)
    sys.modules[name] = made


package = "sglang.multimodal_gen"
for name in (
    "sglang",
    package,
    f"{package}.runtime",
    f"{package}.runtime.utils",
    f"{package}.test",
):
    module(name)
for name in ("sglang.srt", "sglang.srt.utils"):
    module(name)
module(f"{package}.benchmarks", Path(sys.argv.pop(1)))
module(
    f"{package}.runtime.utils.logging_utils",
    configure_logger=lambda arguments: logging.basicConfig(level=arguments.log_level),
    init_logger=logging.getLogger,
)
module(
    f"{package}.test.test_utils",
    print_divider=lambda width: print("-" * width),
    print_value_formatted=lambda title, value: print(title, value),
)
module("sglang.srt.utils.network", NetworkAddress=None)  # only used without --base-url
runpy.run_module(f"{package}.benchmarks.bench_serving", run_name="__main__")
