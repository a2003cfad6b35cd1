"""The Triton configuration of every stage, built with Triton's own protobuf types from one
model's description.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from google.protobuf import text_format

# protoc makes these names when the module is imported: no type checker sees them.
from tritonclient.grpc.model_config_pb2 import (
    DataType,  # pyright: ignore[reportAttributeAccessIssue]
    ModelConfig,  # pyright: ignore[reportAttributeAccessIssue]
    ModelEnsembling,  # pyright: ignore[reportAttributeAccessIssue]
    ModelInstanceGroup,  # pyright: ignore[reportAttributeAccessIssue]
)

from export.options import Flavour
from pipeline.checkpoint.folder import Checkpoint
from pipeline.ensemble import tensors
from pipeline.ensemble.tensors import Tensor
from pipeline.families import ModelInfo

ENSEMBLE = "video"
MAX_QUEUE_SIZE = 128
TRITON_TYPES = {
    "BYTES": DataType.TYPE_STRING,
    "BOOL": DataType.TYPE_BOOL,
    "UINT8": DataType.TYPE_UINT8,
    "INT32": DataType.TYPE_INT32,
    "INT64": DataType.TYPE_INT64,
    "FP32": DataType.TYPE_FP32,
}
BACKENDS: Mapping[Flavour, tuple[str, str, str]] = {
    "onnxruntime": ("onnxruntime", "onnxruntime_onnx", "model.onnx"),
    "tensorrt": ("tensorrt", "tensorrt_plan", "model.plan"),
}
"""Flavour -> Triton's names of the backend and its platform, and the file in the version folder
that it runs.
"""


def stage_configs(info: ModelInfo, flavour: Flavour = "python") -> dict[str, ModelConfig]:
    """Model name -> config, for all stages, the control model and the ensemble that chains them.

    ``flavour`` is what runs the text encoder. Tensors are the same in all, so that the ensemble is
    too.
    """
    latents = tensors.latents(info.latent_channels)
    progress = [tensors.STAGE, tensors.PROGRESS]
    tokenizer = _python("tokenizer", _request_inputs(), [tensors.REQUEST, *_tokenized(info)])
    encoders = [*_text_encoders(info, flavour), *_picture_encoders(info, flavour)]
    dit = _python(
        "dit", [tensors.REQUEST, *tensors.conditions(info)], [*progress, latents, tensors.REQUEST]
    )
    dit.model_transaction_policy.decoupled = True
    # Without a batcher Triton's queue has neither a limit nor timeouts.
    dit.dynamic_batching.default_queue_policy.max_queue_size = MAX_QUEUE_SIZE
    vae_decoder = _python(
        "vae_decoder",
        # All optional: a response of progress alone carries no latents, and one of latents no
        # progress.
        [_optional(t) for t in (*progress, latents, tensors.REQUEST)],
        list(tensors.OUTPUTS),
    )
    vae_decoder.model_transaction_policy.decoupled = True
    control = _python("control", [tensors.ACTION, tensors.JOB_ID, tensors.TOKEN], [tensors.ANSWER])
    return {
        c.name: c for c in (tokenizer, *encoders, dit, vae_decoder, control, ensemble_config(info))
    }


def _ids(info: ModelInfo) -> list[Tensor]:
    """What the tokenizer makes: of models with a second encoder for the prompt alone, as they
    have no second pass.
    """
    ids = [tensors.INPUT_IDS, tensors.ATTENTION_MASK]
    if info.pooled_dim:
        return [*ids, tensors.INPUT_IDS_2]
    return [*ids, tensors.NEGATIVE_INPUT_IDS, tensors.NEGATIVE_ATTENTION_MASK]


def _tokenized(info: ModelInfo) -> list[Tensor]:
    """All that the tokenizer makes: token ids, and of models that take one the picture as each
    encoder wants it.
    """
    pixels = [tensors.pixel_values(info.image_encoder)] if info.image_encoder else []
    return [*_ids(info), *pixels, *([tensors.PICTURE] if info.takes_picture else [])]


def _text_encoders(info: ModelInfo, flavour: Flavour) -> list[ModelConfig]:
    ids, embeds = [tensors.INPUT_IDS, tensors.ATTENTION_MASK], tensors.prompt_embeds(info.text_dim)
    encoders = [encoder_config("text_encoder", ids, [embeds], flavour)]
    if info.pooled_dim:
        pooled = tensors.pooled_embeds(info.pooled_dim)
        encoders.append(encoder_config("text_encoder_2", [tensors.INPUT_IDS], [pooled], flavour))
    for encoder in encoders:
        # Triton caches what lies in the host's memory, and the tensorrt backend leaves its outputs
        # on the GPU.
        encoder.response_cache.enable = flavour != "tensorrt"
    return encoders


def _picture_encoders(info: ModelInfo, flavour: Flavour) -> list[ModelConfig]:
    encoders: list[ModelConfig] = []
    if encoder := info.image_encoder:
        pixels, embeds = tensors.pixel_values(encoder), tensors.image_embeds(encoder)
        encoders.append(encoder_config("image_encoder", [pixels], [embeds], flavour))
    if info.takes_picture:
        encoders.append(_python("vae_encoder", *_vae_encoder(info)))
    return encoders


def _vae_encoder(info: ModelInfo) -> tuple[list[Tensor], list[Tensor]]:
    """What it takes and what it makes."""
    picture = tensors.as_optional(tensors.PICTURE, info)
    return [tensors.REQUEST, picture], [tensors.picture_latents(info.latent_channels)]


def encoder_config(
    name: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor], flavour: Flavour
) -> ModelConfig:
    """A model of one graph, run by the python backend or by Triton itself."""
    if flavour == "python":
        return _python(name, inputs, outputs)
    backend, platform, file = BACKENDS[flavour]
    config = ModelConfig(name=name, backend=backend, platform=platform, default_model_filename=file)
    _declare(config, inputs, outputs)
    group = config.instance_group.add(count=1, kind=ModelInstanceGroup.KIND_CPU)
    if flavour == "tensorrt":
        # Triton would make an instance on every GPU, and the others belong to the transformer's
        # ranks.
        group.kind = ModelInstanceGroup.KIND_GPU
        group.gpus.append(0)
    return config


def ensemble_config(info: ModelInfo) -> ModelConfig:
    """The ensemble: tokenizer -> text encoders (prompt, and negative prompt), encoders of a picture
    -> dit -> vae_decoder.
    """
    config = ModelConfig(name=ENSEMBLE, platform="ensemble")
    config.parameters[tensors.MODEL_PARAMETER].string_value = info.model_dump_json()
    _declare(config, _request_inputs(), tensors.OUTPUTS)
    chain = config.ensemble_scheduling
    inputs = {t.name: t.name for t in _request_inputs()}
    _step(chain, "tokenizer", inputs, _lower(tensors.REQUEST, *_tokenized(info)))
    _encode(chain, "", "prompt_embeds")
    if info.pooled_dim:
        _step(
            chain,
            "text_encoder_2",
            {"INPUT_IDS": "input_ids_2"},
            {"POOLED_EMBEDS": "pooled_embeds"},
        )
    else:
        _encode(chain, "negative_", "negative_embeds")
    if encoder := info.image_encoder:
        _step(
            chain,
            "image_encoder",
            _lower(tensors.pixel_values(encoder)),
            _lower(tensors.image_embeds(encoder)),
        )
    if info.takes_picture:
        taken, made = _vae_encoder(info)
        _step(chain, "vae_encoder", _lower(*taken), _lower(*made))
    _step(
        chain,
        "dit",
        _lower(tensors.REQUEST, *tensors.conditions(info)),
        {
            "STAGE": "stage",
            "PROGRESS": "progress",
            "LATENTS": "latents",
            "REQUEST": "checked_request",
        },
    )
    _step(
        chain,
        "vae_decoder",
        {
            "STAGE": "stage",
            "PROGRESS": "progress",
            "LATENTS": "latents",
            "REQUEST": "checked_request",
        },
        {t.name: t.name for t in tensors.OUTPUTS},
    )
    return config


def _encode(chain: ModelEnsembling, prefix: str, embeds: str) -> None:
    ids = {
        name: f"{prefix}{name.lower()}"
        for name in (tensors.INPUT_IDS.name, tensors.ATTENTION_MASK.name)
    }
    _step(chain, "text_encoder", ids, {"PROMPT_EMBEDS": embeds})


def config_text(config: ModelConfig) -> str:
    """``config.pbtxt``. Text format leaves zeros out, and Triton would guess a batch size of 4."""
    text = text_format.MessageToString(config)
    return text if config.max_batch_size else f"{text}max_batch_size: 0\n"


def _python(name: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> ModelConfig:
    config = ModelConfig(name=name, backend="python")
    _declare(config, inputs, outputs)
    config.instance_group.append(ModelInstanceGroup(count=1, kind=ModelInstanceGroup.KIND_CPU))
    return config


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


def _step(
    chain: ModelEnsembling, model: str, inputs: dict[str, str], outputs: dict[str, str]
) -> None:
    chain.step.add(model_name=model, model_version=-1, input_map=inputs, output_map=outputs)


def _lower(*given: Tensor) -> dict[str, str]:
    """Each tensor under the name that it has between the steps."""
    return {tensor.name: tensor.name.lower() for tensor in given}


def _request_inputs() -> list[Tensor]:
    return [*tensors.SAMPLING, tensors.INPUT_REFERENCE, tensors.RETURN_FRAMES]


def _optional(tensor: Tensor) -> Tensor:
    return Tensor(tensor.name, tensor.datatype, tensor.dims, optional=True)


def write_golden_files(root: Path) -> None:
    """Write ``model_repository/*/config.pbtxt`` below ``root`` as the bundled checkpoint
    renders.
    """
    for name, config in stage_configs(Checkpoint.open(root / "models" / "shapes").info).items():
        (root / "model_repository" / name / "config.pbtxt").write_text(
            config_text(config), encoding="utf-8"
        )


if __name__ == "__main__":
    write_golden_files(Path(__file__).resolve().parent.parent)
