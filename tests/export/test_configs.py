"""The rendered Triton configs: golden files, and every tensor checked from step to step."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from export.configs import config_text, stage_configs
from export.options import Flavour
from pipeline.checkpoint.folder import Checkpoint

ROOT = Path(__file__).resolve().parents[2]
INFO = Checkpoint.open(ROOT / "models" / "shapes").info
CONFIGS = stage_configs(INFO)
TWO_ENCODERS = stage_configs(INFO.model_copy(update={"pooled_dim": 20}))
FLAVOURS = get_args(Flavour)


@pytest.mark.parametrize("name", CONFIGS)
def test_golden_files(name: str) -> None:
    """``model_repository/*/config.pbtxt`` is what the bundled checkpoint renders to.

    After a change that is meant: ``python -m export.configs`` writes them anew.
    """
    golden = ROOT / "model_repository" / name / "config.pbtxt"
    assert golden.read_text() == config_text(CONFIGS[name])


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_reads_back_equal(name: str) -> None:
    text = config_text(CONFIGS[name])
    assert text_format.Parse(text, model_config_pb2.ModelConfig()) == CONFIGS[name]
    assert "max_batch_size: 0" in text, "Triton guesses 4 where it is left out"


@pytest.mark.parametrize("configs", [CONFIGS, TWO_ENCODERS], ids=["one encoder", "two encoders"])
def test_every_value_between_the_steps_agrees(configs: dict[str, Any]) -> None:
    """Names exist on both sides, types and shapes agree, and each value is made before it is
    used.
    """
    ensemble = configs["video"]
    made = {tensor.name: tensor for tensor in ensemble.input}
    for step in ensemble.ensemble_scheduling.step:
        model = configs[step.model_name]
        inputs = {tensor.name: tensor for tensor in model.input}
        outputs = {tensor.name: tensor for tensor in model.output}
        assert set(step.input_map) == set(inputs), f"{step.model_name} gets all its inputs"
        for name, value in step.input_map.items():
            assert value in made, f"{step.model_name}.{name}: {value} is made by no earlier step"
            assert inputs[name].data_type == made[value].data_type
            assert list(inputs[name].dims) == list(made[value].dims)
        for name, value in step.output_map.items():
            assert value not in made, f"{value} is made twice"
            made[value] = outputs[name]
    for output in ensemble.output:
        assert (output.data_type, list(output.dims)) == (
            made[output.name].data_type,
            list(made[output.name].dims),
        )


def test_inputs_of_a_decoupled_step_are_not_mixed_with_others() -> None:
    """Triton refuses it: a step's inputs come from one decoupled step, or from none."""
    decoupled: set[str] = set()
    for step in CONFIGS["video"].ensemble_scheduling.step:
        taken = set(step.input_map.values())
        assert taken <= decoupled or not taken & decoupled
        if CONFIGS[step.model_name].model_transaction_policy.decoupled:
            decoupled |= set(step.output_map.values())


def test_every_input_of_the_decoder_is_optional() -> None:
    assert all(tensor.optional for tensor in CONFIGS["vae_decoder"].input)


def test_a_wrong_field_is_an_error_with_its_line() -> None:
    text = config_text(CONFIGS["dit"]).replace("dynamic_batching", "dynamic_batchng")
    with pytest.raises(text_format.ParseError, match=r"^\d+:\d+ : .*dynamic_batchng"):
        text_format.Parse(text, model_config_pb2.ModelConfig())


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_flavour_changes_only_the_text_encoder(flavour: Flavour) -> None:
    configs = stage_configs(INFO, flavour)
    assert {name for name in configs if configs[name] != CONFIGS[name]} <= {"text_encoder"}
    assert configs["video"] == CONFIGS["video"], "the ensemble never changes"
    for tensors in ("input", "output"):
        assert list(getattr(configs["text_encoder"], tensors)) == list(
            getattr(CONFIGS["text_encoder"], tensors)
        )


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_the_flavour_decides_what_runs_the_text_encoder(flavour: Flavour) -> None:
    config = stage_configs(INFO, flavour)["text_encoder"]
    assert text_format.Parse(config_text(config), model_config_pb2.ModelConfig()) == config
    expected = {
        "python": ("python", "", "", "KIND_CPU", []),
        "onnxruntime": ("onnxruntime", "onnxruntime_onnx", "model.onnx", "KIND_CPU", []),
        "tensorrt": ("tensorrt", "tensorrt_plan", "model.plan", "KIND_GPU", [0]),
    }
    (group,) = config.instance_group
    kind = model_config_pb2.ModelInstanceGroup.Kind.Name(group.kind)
    found = (config.backend, config.platform, config.default_model_filename, kind, list(group.gpus))
    assert found == expected[flavour]
    assert (config.max_batch_size, group.count) == (0, 1)
    assert config.response_cache.enable == (flavour == "onnxruntime")
