"""The Triton config of every stage of one model, built with Triton's own protobuf types.

The stages and their tensors are declared in `pipeline.ensemble`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from google.protobuf import text_format

# protoc makes these names when the module is imported: no type checker sees them.
from tritonclient.grpc.model_config_pb2 import (
    DataType,  # pyright: ignore[reportAttributeAccessIssue]
    ModelConfig,  # pyright: ignore[reportAttributeAccessIssue]
    ModelInstanceGroup,  # pyright: ignore[reportAttributeAccessIssue]
)

from export.options import Flavour
from pipeline.checkpoint.folder import Checkpoint
from pipeline.ensemble import tensors
from pipeline.ensemble.stages import ENSEMBLE, Stage, stages_for, steps_for
from pipeline.ensemble.tensors import Tensor
from pipeline.families import ModelInfo

TRITON_TYPES = {
    "BYTES": DataType.TYPE_STRING,
    "BOOL": DataType.TYPE_BOOL,
    "UINT8": DataType.TYPE_UINT8,
    "INT32": DataType.TYPE_INT32,
    "INT64": DataType.TYPE_INT64,
    "FP32": DataType.TYPE_FP32,
    "FP64": DataType.TYPE_FP64,
}
BACKENDS: Mapping[Flavour, tuple[str, str, str]] = {
    "onnxruntime": ("onnxruntime", "onnxruntime_onnx", "model.onnx"),
    "tensorrt": ("tensorrt", "tensorrt_plan", "model.plan"),
}
"""Flavour -> Triton's names of the backend and its platform, and the file in the version folder
that it runs.
"""


def stage_configs(info: ModelInfo, flavour: Flavour = "python") -> dict[str, ModelConfig]:
    """Return the config of each Triton model by its name: the stages and the ensemble.

    ``flavour`` is what runs the encoders. It changes no tensor, and so not the ensemble.
    """
    configs = [_stage_config(stage, flavour) for stage in stages_for(info)]
    return {config.name: config for config in (*configs, ensemble_config(info))}


def _stage_config(stage: Stage, flavour: Flavour) -> ModelConfig:
    graph = stage.one_graph and flavour != "python"
    config = _backend_config(stage, flavour) if graph else _python_config(stage)
    _declare(config, stage.inputs, stage.outputs)
    if stage.one_graph:
        # A python stage has its own cache (`pipeline.stages.kept_results`). Triton caches host
        # memory, and the tensorrt backend leaves its outputs on the GPU.
        config.response_cache.enable = flavour == "onnxruntime"
    if stage.decoupled:
        config.model_transaction_policy.decoupled = True
    if stage.max_queue_size is not None:
        # Without a batcher Triton's queue has neither a limit nor timeouts.
        config.dynamic_batching.default_queue_policy.max_queue_size = stage.max_queue_size
    return config


def _python_config(stage: Stage) -> ModelConfig:
    config = ModelConfig(name=stage.name, backend="python")
    config.instance_group.append(ModelInstanceGroup(count=1, kind=ModelInstanceGroup.KIND_CPU))
    return config


def _backend_config(stage: Stage, flavour: Flavour) -> ModelConfig:
    """Return the config of a graph that Triton runs itself."""
    backend, platform, file = BACKENDS[flavour]
    config = ModelConfig(
        name=stage.name, backend=backend, platform=platform, default_model_filename=file
    )
    group = config.instance_group.add(count=1, kind=ModelInstanceGroup.KIND_CPU)
    if flavour == "tensorrt":
        # Triton would make an instance on every GPU, and the others belong to the transformer's
        # ranks.
        group.kind = ModelInstanceGroup.KIND_GPU
        group.gpus.append(0)
    return config


def ensemble_config(info: ModelInfo) -> ModelConfig:
    """Return the config of the ensemble. The first step takes its inputs, and the last one makes
    its outputs; all other values are named after their tensors.
    """
    config = ModelConfig(name=ENSEMBLE, platform="ensemble")
    config.parameters[tensors.MODEL_PARAMETER].string_value = info.model_dump_json()
    _declare(config, tensors.INPUTS, tensors.OUTPUTS)
    steps = steps_for(info)
    for step in steps:
        inputs = _same(tensors.INPUTS) if step is steps[0] else step.input_map(info)
        outputs = _same(tensors.OUTPUTS) if step is steps[-1] else step.output_map(info)
        config.ensemble_scheduling.step.add(
            model_name=step.stage.name, model_version=-1, input_map=inputs, output_map=outputs
        )
    return config


def _same(given: Sequence[Tensor]) -> dict[str, str]:
    return {tensor.name: tensor.name for tensor in given}


def config_text(config: ModelConfig) -> str:
    """Return ``config.pbtxt``. Text format leaves zeros out, and Triton would guess a batch size of
    4.
    """
    text = text_format.MessageToString(config)
    return text if config.max_batch_size else f"{text}max_batch_size: 0\n"


def _declare(config: ModelConfig, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
    for tensor in inputs:
        config.input.add(
            name=tensor.name,
            data_type=TRITON_TYPES[tensor.datatype],
            dims=tensor.dims,
            optional=tensor.optional,
        )
    for tensor in outputs:
        config.output.add(
            name=tensor.name, data_type=TRITON_TYPES[tensor.datatype], dims=tensor.dims
        )


def write_golden_files(root: Path) -> None:
    """Write ``model_repository/*/config.pbtxt`` below ``root``, rendered from the bundled
    checkpoint.
    """
    for name, config in stage_configs(Checkpoint.open(root / "models" / "shapes").info).items():
        (root / "model_repository" / name / "config.pbtxt").write_text(
            config_text(config), encoding="utf-8"
        )


if __name__ == "__main__":
    write_golden_files(Path(__file__).resolve().parent.parent)
