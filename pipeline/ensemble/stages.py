"""Every Triton model and how the ensemble connects them, declared once.

Configs, repository, adapters, ``control`` and client iterate over these tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from pipeline.ensemble import tensors
from pipeline.ensemble.tensors import Tensor, tensors_of
from pipeline.families import ModelInfo, parts

ENSEMBLE = "video"
MAX_QUEUE_SIZE = 128


@dataclass(frozen=True)
class Stage:
    """One Triton model.

    ``code`` is the folder of ``model_repository`` whose ``model.py`` it runs. A stage that is
    ``one_graph`` may be run by a backend of Triton instead, and its results are cached. A
    ``cancellable`` stage answers the ``control`` model. Triton refuses requests beyond
    ``max_queue_size``.
    """

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    code: str
    one_graph: bool = False
    cancellable: bool = False
    decoupled: bool = False
    max_queue_size: int | None = None

    def of_model(self, info: ModelInfo) -> Stage:
        """Return the stage with the tensors that one model has, in its sizes."""
        return replace(
            self,
            inputs=tensors_of(info, *self.inputs),
            outputs=tensors_of(info, *self.outputs),
        )


def _optional(*given: Tensor) -> tuple[Tensor, ...]:
    return tuple(replace(tensor, optional=True) for tensor in given)


TOKENIZER = Stage(
    "tokenizer",
    tensors.INPUTS,
    (
        tensors.REQUEST,
        tensors.INPUT_IDS,
        tensors.ATTENTION_MASK,
        tensors.INPUT_IDS_2,
        tensors.NEGATIVE_INPUT_IDS,
        tensors.NEGATIVE_ATTENTION_MASK,
        tensors.PIXEL_VALUES,
        tensors.IMAGE,
        tensors.LAST_IMAGE,
        tensors.SOURCE,
    ),
    code="tokenizer",
)
TEXT_ENCODER = Stage(
    parts.TEXT_ENCODER.name,
    (tensors.INPUT_IDS, tensors.ATTENTION_MASK),
    (tensors.PROMPT_EMBEDS,),
    code="text_encoder",
    one_graph=True,
)
TEXT_ENCODER_2 = Stage(
    parts.TEXT_ENCODER_2.name,
    (tensors.INPUT_IDS,),
    (tensors.POOLED_EMBEDS,),
    code="text_encoder",
    one_graph=True,
)
IMAGE_ENCODER = Stage(
    parts.IMAGE_ENCODER.name,
    (tensors.PIXEL_VALUES,),
    (tensors.IMAGE_EMBEDS,),
    code="text_encoder",
    one_graph=True,
)
VAE_ENCODER = Stage(
    parts.VAE_ENCODER.name,
    (tensors.REQUEST, tensors.IMAGE, tensors.LAST_IMAGE, tensors.SOURCE),
    (tensors.IMAGE_LATENTS,),
    code="vae_encoder",
    cancellable=True,
)
DIT = Stage(
    "dit",
    (tensors.REQUEST, *tensors.CONDITIONS, tensors.SOURCE),
    (
        tensors.STAGE,
        tensors.PROGRESS,
        tensors.ESTIMATE,
        tensors.LATENTS,
        tensors.REQUEST,
        tensors.SOURCE,
    ),
    code="dit",
    cancellable=True,
    decoupled=True,
    max_queue_size=MAX_QUEUE_SIZE,
)
VAE_DECODER = Stage(
    parts.VAE_DECODER.name,
    # A response of progress carries no latents, and one of latents carries no progress.
    _optional(*DIT.outputs),
    tensors.OUTPUTS,
    code="vae_decoder",
    cancellable=True,
    decoupled=True,
)
CONTROL = Stage(
    "control", (tensors.ACTION, tensors.JOB_ID, tensors.TOKEN), (tensors.ANSWER,), code="control"
)
STAGES = (
    TOKENIZER,
    TEXT_ENCODER,
    TEXT_ENCODER_2,
    IMAGE_ENCODER,
    VAE_ENCODER,
    DIT,
    VAE_DECODER,
    CONTROL,
)


ENCODERS: Mapping[str, Stage] = {
    stage.name: stage for stage in (TEXT_ENCODER, TEXT_ENCODER_2, IMAGE_ENCODER)
}
"""Maps the name of an encoder of texts or images to its stage."""


@dataclass(frozen=True)
class Step:
    """One use of a stage by the ensemble, whose values are named after their tensors.

    ``renamed`` maps the name of an input or output to the tensor whose value it takes or makes
    instead.
    """

    stage: Stage
    inputs: Mapping[str, Tensor] = field(default_factory=dict)
    outputs: Mapping[str, Tensor] = field(default_factory=dict)

    def is_of(self, info: ModelInfo) -> bool:
        """Whether the ensemble of this model has the step."""
        made = tensors_of(info, *self.stage.outputs)
        return bool(tensors_of(info, *(self.outputs.get(each.name, each) for each in made)))

    def input_map(self, info: ModelInfo) -> dict[str, str]:
        """Name of each input -> name of the value it takes."""
        return self._values(tensors_of(info, *self.stage.inputs), self.inputs)

    def output_map(self, info: ModelInfo) -> dict[str, str]:
        """Name of each output -> name of the value it makes."""
        return self._values(tensors_of(info, *self.stage.outputs), self.outputs)

    def _values(self, given: Iterable[Tensor], renamed: Mapping[str, Tensor]) -> dict[str, str]:
        return {tensor.name: renamed.get(tensor.name, tensor).key for tensor in given}


CHECKED = {
    tensors.REQUEST.name: tensors.CHECKED_REQUEST,
    tensors.SOURCE.name: tensors.CHECKED_SOURCE,
}

STEPS = (
    Step(TOKENIZER),
    Step(TEXT_ENCODER),
    Step(TEXT_ENCODER_2, inputs={tensors.INPUT_IDS.name: tensors.INPUT_IDS_2}),
    Step(
        TEXT_ENCODER,
        inputs={
            tensors.INPUT_IDS.name: tensors.NEGATIVE_INPUT_IDS,
            tensors.ATTENTION_MASK.name: tensors.NEGATIVE_ATTENTION_MASK,
        },
        outputs={tensors.PROMPT_EMBEDS.name: tensors.NEGATIVE_EMBEDS},
    ),
    Step(IMAGE_ENCODER),
    Step(VAE_ENCODER),
    Step(DIT, outputs=CHECKED),
    Step(VAE_DECODER, inputs=CHECKED),
)


def stages_for(info: ModelInfo) -> tuple[Stage, ...]:
    """The stages of one model, with its tensors. A stage without outputs is not one of them."""
    return tuple(stage for each in STAGES if (stage := each.of_model(info)).outputs)


def steps_for(info: ModelInfo) -> tuple[Step, ...]:
    """The steps of one model's ensemble, in order."""
    return tuple(step for step in STEPS if step.is_of(info))
