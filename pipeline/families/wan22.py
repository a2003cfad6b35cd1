"""Wan 2.2: A14B with two experts that share the steps, and TI2V 5B with a VAE compression of
4 x 16 x 16.

Sizes, steps and guidance are those of the published model cards. ``boundary_ratio`` in a
checkpoint's ``model_index.json`` sets where the second expert replaces the first.
"""

from __future__ import annotations

from pipeline.families.family import Family
from pipeline.families.parts import TEXT_ENCODER, VAE_DECODER, VAE_ENCODER
from pipeline.families.wan21 import COMPONENTS, DEFAULTS

EXPERTS = {**COMPONENTS, "transformer_2": ("WanTransformer3DModel",)}

WAN22_T2V = Family(
    name="wan2.2-t2v",
    pipeline_classes=("WanPipeline",),
    marks=frozenset({"transformer_2", "boundary_ratio"}),
    components=EXPERTS,
    parts=(TEXT_ENCODER, VAE_DECODER),
    defaults=DEFAULTS.model_copy(
        update={
            "height": 720,
            "width": 1280,
            "num_inference_steps": 40,
            "guidance_scale": 4.0,
            "guidance_scale_2": 3.0,
        }
    ),
    max_side=1280,
    max_frames=257,
    max_steps=200,
    edits_with_encoder=True,
)

WAN22_I2V = Family(
    name="wan2.2-i2v",
    pipeline_classes=("WanImageToVideoPipeline",),
    marks=frozenset({"transformer_2", "boundary_ratio"}),
    components=EXPERTS,
    parts=(TEXT_ENCODER, VAE_ENCODER, VAE_DECODER),
    defaults=DEFAULTS.model_copy(
        update={"num_inference_steps": 40, "guidance_scale": 3.5, "guidance_scale_2": 3.5}
    ),
    max_side=1280,
    max_frames=257,
    max_steps=200,
    image="required",
    last_frame="optional",
    extends=True,
)

WAN22_TI2V = Family(
    name="wan2.2-ti2v",
    pipeline_classes=("WanPipeline", "WanImageToVideoPipeline"),
    marks=frozenset({"expand_timesteps"}),
    components=COMPONENTS,
    parts=(TEXT_ENCODER, VAE_ENCODER, VAE_DECODER),
    defaults=DEFAULTS.model_copy(
        update={"height": 704, "width": 1280, "num_frames": 121, "fps": 24}
    ),
    max_side=1280,
    max_frames=257,
    max_steps=200,
    image="optional",
    edits=True,
    extends=True,
)
