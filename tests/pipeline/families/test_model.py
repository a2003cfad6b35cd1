"""Requests take defaults, are checked against bounds, and errors name the nearest valid values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.ensemble import tensors
from pipeline.errors import CheckpointError, InputError
from pipeline.families import (
    FAMILIES,
    Defaults,
    Family,
    ModelInfo,
    SamplingParams,
    family_named,
    family_of,
)
from pipeline.families.parts import VAE_ENCODER
from pipeline.stages.tokenizer import clean_prompt, parse_params

EXPERT = ["diffusers", "WanTransformer3DModel"]
DEFAULTS = Defaults(
    height=64,
    width=96,
    num_frames=17,
    fps=8,
    num_inference_steps=20,
    guidance_scale=4.0,
    negative_prompt="ugly",
    max_sequence_length=32,
)
INFO = ModelInfo(
    name="test",
    family="wan2.1-t2v",
    defaults=DEFAULTS,
    max_side=1280,
    max_frames=257,
    max_steps=200,
    latent_channels=16,
    spatial_compression=8,
    temporal_compression=4,
    patch_size=2,
    text_dim=128,
)


def resolve(**values: Any) -> Any:
    return INFO.resolve(SamplingParams(prompt="x", **values))


@pytest.mark.parametrize(
    ("image", "size"),
    [
        ((96, 64), (96, 64)),
        ((200, 100), (96, 48)),
        ((100, 200), (48, 96)),
        ((4000, 1), (1280, 16)),
        ((1, 1), (64, 64)),
    ],
)
def test_an_image_to_video_request_takes_the_shape_of_the_image(
    image: tuple[int, int], size: tuple[int, int]
) -> None:
    info = INFO.model_copy(update={"image": "optional"})
    request = info.resolve(SamplingParams(prompt="x"), image=image)
    assert (request.width, request.height) == size
    asked = info.resolve(SamplingParams(prompt="x", width=32, height=48), image=image)
    assert (asked.width, asked.height) == (32, 48)


@pytest.mark.parametrize(("use", "image"), [("refused", (8, 8)), ("required", None)])
def test_an_unsupported_image_and_a_missing_image_are_refused(
    use: str, image: tuple[int, int] | None
) -> None:
    info = INFO.model_copy(update={"image": use})
    with pytest.raises(InputError, match=r"input_reference: .*'test' makes videos from"):
        info.resolve(SamplingParams(prompt="x"), image=image)


def test_omitted_parameters_take_the_defaults_of_the_model() -> None:
    request = resolve(seed=3)
    assert (request.height, request.width, request.num_frames, request.fps) == (64, 96, 17, 8)
    assert (
        request.num_inference_steps,
        request.guidance_scale,
        request.flow_shift,
        request.seed,
    ) == (20, 4.0, None, 3)
    assert INFO.latent_shape(request) == (1, 16, 5, 8, 12)
    assert INFO.negative_prompt(SamplingParams(prompt="x")) == "ugly"
    assert INFO.negative_prompt(SamplingParams(prompt="x", negative_prompt="")) == ""


def test_a_seed_is_drawn_when_none_is_given() -> None:
    assert resolve().seed != resolve().seed
    assert resolve(seed=0).seed == 0


@pytest.mark.parametrize(
    ("values", "nearest"),
    [
        ({"height": 1}, "(nearest: 16)"),
        ({"height": 65}, "(nearest: 64 or 80)"),
        ({"width": 1279}, "(nearest: 1264 or 1280)"),
        ({"width": 4096}, "(nearest: 1280)"),
        ({"num_frames": 2}, "(nearest: 1 or 5)"),
        ({"num_frames": 45 + 1}, "(nearest: 45 or 49)"),
        ({"num_frames": 300}, "(nearest: 257)"),
        ({"num_inference_steps": 201}, "it must be from 1 to 200"),
    ],
)
def test_the_error_names_the_nearest_valid_value(values: dict[str, int], nearest: str) -> None:
    with pytest.raises(InputError, match=nearest) as caught:
        resolve(**values)
    assert caught.value.field in values


@pytest.mark.parametrize(
    "values", [{"height": 1280, "width": 16}, {"num_frames": 1}, {"num_frames": 257}]
)
def test_the_bounds_themselves_are_valid(values: dict[str, int]) -> None:
    resolve(**values)


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("prompt", {}),
        ("prompt", {"prompt": ""}),
        ("seed", {"prompt": "x", "seed": -1}),
        ("guidance_scale", {"prompt": "x", "guidance_scale": float("inf")}),
        ("hight", {"prompt": "x", "hight": 3}),
    ],
)
def test_the_error_names_the_invalid_field(field: str, values: dict[str, Any]) -> None:
    with pytest.raises(InputError) as caught:
        parse_params(values)
    assert caught.value.field == field


def test_every_sampling_parameter_has_a_tensor() -> None:
    assert [tensor.name.lower() for tensor in tensors.SAMPLING] == list(SamplingParams.model_fields)
    assert [tensor.optional for tensor in tensors.SAMPLING] == [
        not field.is_required() for field in SamplingParams.model_fields.values()
    ]


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (
            {"_class_name": "StableDiffusionPipeline"},
            r"'StableDiffusionPipeline' is of no known family; known are wan2.1-t2v "
            r"\(WanPipeline\); wan2.1-i2v \(",
        ),
        (
            {"_class_name": "WanPipeline", "transformer_2": EXPERT},
            r"'WanPipeline' with transformer_2 is of no known .* wan2.2-t2v \(WanPipeline with "
            r"transformer_2 and",
        ),
        (
            {
                "_class_name": "HunyuanVideoPipeline",
                "image_encoder": ["transformers", "SiglipVisionModel"],
            },
            "no known",
        ),
        ({}, "pipeline class None is of no known family"),
    ],
)
def test_the_error_for_an_unknown_family_lists_the_known_ones(
    index: dict[str, Any], message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        family_of(index)


@pytest.mark.parametrize(
    ("family", "index"),
    [
        ("wan2.1-t2v", {"_class_name": "WanPipeline"}),
        (
            "wan2.1-t2v",
            {"_class_name": "WanPipeline", "transformer_2": [None, None], "boundary_ratio": None},
        ),
        (
            "wan2.1-i2v",
            {"_class_name": "WanImageToVideoPipeline", "image_encoder": ["transformers", "_"]},
        ),
        (
            "wan2.2-t2v",
            {"_class_name": "WanPipeline", "transformer_2": EXPERT, "boundary_ratio": 0.875},
        ),
        (
            "wan2.2-i2v",
            {
                "_class_name": "WanImageToVideoPipeline",
                "transformer_2": EXPERT,
                "boundary_ratio": 0.9,
                "image_encoder": [None, None],
            },
        ),
        (
            "wan2.2-ti2v",
            {"_class_name": "WanPipeline", "expand_timesteps": True, "transformer_2": [None, None]},
        ),
        ("wan2.2-ti2v", {"_class_name": "WanImageToVideoPipeline", "expand_timesteps": True}),
        ("hunyuan-video", {"_class_name": "HunyuanVideoPipeline"}),
    ],
)
def test_a_family_is_recognised_by_its_pipeline_class_and_marks(
    family: str, index: dict[str, Any]
) -> None:
    """The indexes are those of the published checkpoints."""
    assert family_of(index).name == family


def test_no_two_families_share_pipeline_class_and_marks() -> None:
    told = [
        (name, family.marks) for family in FAMILIES.values() for name in family.pipeline_classes
    ]
    assert len(told) == len(set(told))


def test_a_family_is_found_by_name() -> None:
    assert [family_named(name).name for name in FAMILIES] == list(FAMILIES)
    with pytest.raises(
        CheckpointError, match=r"unknown model family 'wan3'; known are wan2\.1-t2v, wan2\.1-i2v"
    ):
        family_named("wan3")


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_the_fields_of_a_family_are_consistent(family: Family) -> None:
    tokenizers = [name for name in family.components if name.startswith("tokenizer")]
    assert [part.preprocessor for part in family.text_encoders] == tokenizers
    assert {part.component for part in family.parts} <= set(family.components)
    assert (VAE_ENCODER in family.parts) == (family.image != "refused")
    assert (family.defaults.guidance_scale_2 is not None) == (len(family.transformers) == 2)
    assert family.defaults.num_frames % 4 == 1
    assert max(family.defaults.height, family.defaults.width) <= family.max_side


def test_model_json_round_trips_and_an_invalid_one_is_refused(tmp_path: Path) -> None:
    INFO.save(tmp_path)
    assert ModelInfo.load(tmp_path) == INFO
    (tmp_path / "model.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"model\.json is not a model description"):
        ModelInfo.load(tmp_path)


def test_prompts_are_unescaped_and_whitespace_is_collapsed() -> None:
    assert clean_prompt("  a &amp;amp; b\n\tc ") == "a & b c"


def test_guidance_scale_2_is_refused_without_a_second_expert() -> None:
    with pytest.raises(
        InputError, match=r"^guidance_scale_2: not supported; the model has no second expert"
    ):
        resolve(guidance_scale_2=3.0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"num_inference_steps": 4},
            "num_inference_steps: 4 is not valid; the model was distilled to 3 steps",
        ),
        ({"flow_shift": 3.0}, "flow_shift: not supported; the model has fixed timesteps"),
    ],
)
def test_a_distilled_model_refuses_other_steps_and_flow_shift(
    values: dict[str, Any], message: str
) -> None:
    own = DEFAULTS.model_copy(
        update={"denoising_timesteps": (1000, 757, 522), "num_inference_steps": 3}
    )
    info = INFO.model_copy(update={"defaults": own})
    assert info.resolve(SamplingParams(prompt="x", num_inference_steps=3)).num_inference_steps == 3
    with pytest.raises(InputError, match=message):
        info.resolve(SamplingParams(prompt="x", **values))


def test_version_1_of_model_json_is_read(tmp_path: Path) -> None:
    """The first release wrote no version and named the image differently."""
    INFO.save(tmp_path)
    file = tmp_path / "model.json"
    stored = json.loads(file.read_text())
    assert stored.pop("version") == 2
    stored["picture"] = "optional"
    del stored["image"]
    file.write_text(json.dumps(stored))
    assert ModelInfo.load(tmp_path) == INFO.model_copy(update={"image": "optional"})
