"""Run an ONNX file on ONNX Runtime: as it is served in fp32, and operator by operator in a half
precision.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch

from export.parity.widened import is_half, widen


class OnnxGraph:
    """Takes and returns fp32 where the file has a half precision. Weights outside the file are
    mapped, not read.
    """

    def __init__(self, path: Path, exposed: Iterable[str] = ()) -> None:
        """``exposed`` are tensors inside the graph that become outputs too."""
        model = onnx.load(path, load_external_data=False)
        names = {value.name for value in model.graph.output}
        half, exposed = is_half(model), [name for name in exposed if name not in names]
        if not half and not exposed:
            self._session = _session(path, _options(model, exact=False))
            return
        declared = {value.name: value for value in model.graph.value_info}
        model.graph.output.extend(declared[name] for name in exposed if name in declared)
        if half:
            widen(model)
        with _beside(path) as changed:
            onnx.save(model, changed)
            self._session = _session(changed, _options(model, exact=half))

    @property
    def outputs(self) -> list[str]:
        return [value.name for value in self._session.get_outputs()]

    def __call__(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        results = self._session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
        return {
            name: torch.from_numpy(np.asarray(a))
            for name, a in zip(self.outputs, results, strict=True)
        }


def _options(model: onnx.ModelProto, *, exact: bool) -> ort.SessionOptions:
    """Return session options. ``exact`` runs each operator as it is written: nothing fuses it with
    others or drops a cast.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = False
    external = any(
        tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer
    )
    if exact or external:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if external:
        # Prepacked weights would be a copy of all of them.
        options.add_session_config_entry("session.disable_prepacking", "1")
    return options


def _session(path: Path, options: ort.SessionOptions) -> ort.InferenceSession:
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """Yield a temporary file in the folder that external weights are found from."""
    with tempfile.NamedTemporaryFile(
        dir=path.parent, prefix=f".{path.stem}-", suffix=".onnx"
    ) as file:
        yield Path(file.name)
