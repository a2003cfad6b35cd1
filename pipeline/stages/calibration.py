"""Measure the table of a model's step cache, with the stages of its repository but no Triton."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import takewhile
from pathlib import Path

import numpy as np

from pipeline.ensemble.stages import DIT, ENCODERS, TOKENIZER, Step, steps_for
from pipeline.ensemble.tensors import IMAGE, IMAGE_LATENTS, LAST_IMAGE, tensors_of
from pipeline.errors import InputError
from pipeline.families import Inputs, ModelInfo, SamplingParams, VideoRequest
from pipeline.families.step_cache.table import StepCacheTable
from pipeline.ranks.group import RankGroup, Task
from pipeline.settings import StageSettings
from pipeline.stages.text_encoder import open_text_encoder
from pipeline.stages.tokenizer import TokenizerStage
from pipeline.stages.vae_encoder import VaeEncoderStage

Values = dict[str, np.ndarray]
"""The values between the stages of one video, by the names of `pipeline.ensemble.stages`."""
Report = Callable[[str, int, int], None]
"""Takes a stage, the finished steps of it, and their total."""


def measure(
    repository: Path, videos: Sequence[SamplingParams], inputs: Inputs, report: Report
) -> tuple[StepCacheTable, VideoRequest]:
    """Return the mean table of ``videos``, which have the same size and steps, and the first one.

    All texts are encoded first, so that encoders and transformer are never loaded together. Raises
    ``InputError`` for a video that the model cannot make, and ``RankError``.
    """
    folder = repository / DIT.name / "1"
    settings, info = StageSettings.load(folder), ModelInfo.load(folder)
    tokenizer = TokenizerStage(repository / TOKENIZER.name / "1", settings)
    made = [tokenizer.run(_given(params), return_frames=False, inputs=inputs) for params in videos]
    requests = [each.request.model_copy(update={"step_cache": "off"}) for each in made]
    values = [{name.lower(): tensor for name, tensor in each.tensors.items()} for each in made]
    for number, step in enumerate(steps := list(_before_dit(info))):
        report("encode", number, len(steps))
        _encode(step, info, repository, settings, requests, values)
    conditions = {tensor.key for tensor in tensors_of(info, *DIT.inputs)}
    tables: list[list[list[list[float]]]] = []
    with RankGroup(settings) as ranks:
        for number, (request, each) in enumerate(zip(requests, values, strict=True)):
            total = request.num_inference_steps
            arrays = {name: array for name, array in each.items() if name in conditions}

            def before_step(step: int, done: int = number * total, total: int = total) -> None:
                report("denoise", done + step, total * len(requests))

            tables.append(ranks.measure(Task(request, arrays, before_step)))
    return StepCacheTable.model_validate({"ratios": _means(tables)}), requests[0]


def _given(params: SamplingParams) -> dict[str, object]:
    return params.model_dump(exclude_none=True)


def _before_dit(info: ModelInfo) -> Iterator[Step]:
    between = takewhile(lambda step: step.stage.name != DIT.name, steps_for(info))
    return (step for step in between if step.stage.name != TOKENIZER.name)


def _encode(
    step: Step,
    info: ModelInfo,
    repository: Path,
    settings: StageSettings,
    requests: Sequence[VideoRequest],
    values: Sequence[Values],
) -> None:
    """Add the outputs of one step to the values of each video."""
    name = step.stage.name
    folder = repository / name / "1"
    if name not in ENCODERS:
        if any(IMAGE.key in each for each in values):
            with closing(VaeEncoderStage(folder, settings)) as vae:
                for request, each in zip(requests, values, strict=True):
                    arrays = {
                        tensor.name: each[tensor.key]
                        for tensor in (IMAGE, LAST_IMAGE)
                        if tensor.key in each
                    }
                    latents = vae.run(request, arrays, lambda _done, _total: None)
                    each |= {} if latents is None else {IMAGE_LATENTS.key: latents}
        return
    inputs, outputs = step.input_map(info), step.output_map(info)
    with closing(open_text_encoder(name, folder, settings)) as encoder:
        for each in values:
            made = encoder.run({given: each[inputs[given]] for given in encoder.inputs})
            each.update({outputs[output]: array for output, array in made.items()})


def _means(tables: Sequence[Sequence[Sequence[Sequence[float]]]]) -> list[list[list[float]]]:
    """Return the mean ratios of all videos, by expert, branch and step."""
    if any(not expert for table in tables for expert in table):
        raise InputError(
            "num_inference_steps", "is not valid; it must give both experts at least one step"
        )
    return [
        [
            [round(float(ratio), 5) for ratio in np.mean(branch, axis=0)]
            for branch in zip(*expert, strict=True)
        ]
        for expert in zip(*tables, strict=True)
    ]
