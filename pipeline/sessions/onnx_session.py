"""Opens ONNX Runtime sessions on a CPU."""

from __future__ import annotations

from pathlib import Path

import onnxruntime

from pipeline.errors import CheckpointError
from pipeline.system.cpus import available_cpus


def open_session(path: Path, threads: int, *, arena: bool = True) -> onnxruntime.InferenceSession:
    """Open a CPU session with ``threads`` threads (0: one per available CPU). ``arena`` keeps
    freed memory for the next run.

    Raises ``CheckpointError`` for a missing file.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} is missing; export the checkpoint again")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or available_cpus()
    options.inter_op_num_threads = 1
    # Spinning threads respond a microsecond sooner but occupy a core each that the transformer
    # needs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.enable_cpu_mem_arena = arena
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
