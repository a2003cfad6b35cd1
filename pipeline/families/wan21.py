"""Wan 2.1 (1.3B and 14B), text-to-video and image-to-video: one transformer, one UMT5 text encoder
and a causal VAE with a compression of 4 x 8 x 8.

Sizes, steps and guidance are those of the published model cards and of the pipelines in diffusers.
"""

from __future__ import annotations

from pipeline.families.family import Defaults, Family
from pipeline.families.parts import IMAGE_ENCODER, TEXT_ENCODER, VAE_DECODER, VAE_ENCODER

NEGATIVE_PROMPT = (
    "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，低质量，JPEG压缩残留，"
    "丑陋的，残缺的，多余的手指，画得不好的手部，画得不好的脸部，畸形的，毁容的，形态畸形的肢体，手指融合，静止不动的画面，"
    "杂乱的背景，三条腿，背景人很多，倒着走"
)

COMPONENTS = {
    "tokenizer": ("T5TokenizerFast", "T5Tokenizer", "PreTrainedTokenizerFast", "TokenizersBackend"),
    "text_encoder": ("UMT5EncoderModel",),
    "transformer": ("WanTransformer3DModel",),
    "vae": ("AutoencoderKLWan",),
    "scheduler": ("UniPCMultistepScheduler", "FlowMatchEulerDiscreteScheduler"),
}
DEFAULTS = Defaults(
    height=480,
    width=832,
    num_frames=81,
    fps=16,
    num_inference_steps=50,
    guidance_scale=5.0,
    negative_prompt=NEGATIVE_PROMPT,
    max_sequence_length=512,
)

WAN21_T2V = Family(
    name="wan2.1-t2v",
    pipeline_classes=("WanPipeline",),
    components=COMPONENTS,
    parts=(TEXT_ENCODER, VAE_DECODER),
    defaults=DEFAULTS,
    max_side=1280,
    max_frames=257,
    max_steps=200,
    edits_with_encoder=True,
)

WAN21_I2V = Family(
    name="wan2.1-i2v",
    pipeline_classes=("WanImageToVideoPipeline",),
    marks=frozenset({"image_encoder"}),
    components={
        **COMPONENTS,
        "image_encoder": ("CLIPVisionModel", "CLIPVisionModelWithProjection"),
        "image_processor": (
            "CLIPImageProcessor",
            "CLIPImageProcessorFast",
            "CLIPImageProcessorPil",
        ),
    },
    parts=(TEXT_ENCODER, IMAGE_ENCODER, VAE_ENCODER, VAE_DECODER),
    defaults=DEFAULTS,
    max_side=1280,
    max_frames=257,
    max_steps=200,
    image="required",
    extends=True,
)
