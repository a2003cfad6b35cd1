"""HunyuanVideo, text-to-video: one transformer, a LLaMA and a CLIP text encoder, and a causal VAE
with a compression of 4 x 8 x 8.

Sizes, steps and guidance are those of the published model card and of
``diffusers.HunyuanVideoPipeline``. The guidance scale is embedded: it is an input of the
transformer, which was distilled to need no second pass. A negative prompt therefore has no effect,
and the default is empty.

FastHunyuan is the same model distilled to 6 steps. Its ``model_index.json`` does not show that, so
it defaults to the 50 steps of HunyuanVideo unless a ``triton_video.json`` in its folder contains
``{"num_inference_steps": 6}``.
"""

from __future__ import annotations

from pipeline.families.family import Defaults, Family
from pipeline.families.parts import TEXT_ENCODER, TEXT_ENCODER_2, VAE_DECODER

# The instruction that the model was trained with (``DEFAULT_PROMPT_TEMPLATE`` in diffusers).
# TEMPLATE_TOKENS is the number of its tokens before the prompt, with LLaMA 3's tokenizer.
PROMPT_TEMPLATE = (
    "<|start_header_id|>system<|end_header_id|>\n\nDescribe the video by detailing the following "
    "aspects: "
    "1. The main content and theme of the video."
    "2. The color, shape, size, texture, quantity, text, and spatial relationships of the objects."
    "3. Actions, events, behaviors temporal relationships, physical movement changes of the "
    "objects."
    "4. background environment, light, style and atmosphere."
    "5. camera angles, movements, and transitions used in the video:<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|>"
)
# LLaMA's last layers are skipped: the transformer reads the third last of the hidden states.
SKIPPED_LAYERS = 2
TEMPLATE_TOKENS = 95

HUNYUAN_VIDEO = Family(
    name="hunyuan-video",
    pipeline_classes=("HunyuanVideoPipeline",),
    components={
        "tokenizer": (
            "LlamaTokenizerFast",
            "LlamaTokenizer",
            "PreTrainedTokenizerFast",
            "TokenizersBackend",
        ),
        "tokenizer_2": (
            "CLIPTokenizer",
            "CLIPTokenizerFast",
            "PreTrainedTokenizerFast",
            "TokenizersBackend",
        ),
        "text_encoder": ("LlamaModel",),
        "text_encoder_2": ("CLIPTextModel",),
        "transformer": ("HunyuanVideoTransformer3DModel",),
        "vae": ("AutoencoderKLHunyuanVideo",),
        "scheduler": ("FlowMatchEulerDiscreteScheduler",),
    },
    parts=(TEXT_ENCODER, TEXT_ENCODER_2, VAE_DECODER),
    defaults=Defaults(
        height=720,
        width=1280,
        num_frames=129,
        fps=24,
        num_inference_steps=50,
        guidance_scale=6.0,
        negative_prompt="",
        max_sequence_length=256,
    ),
    max_side=1280,
    max_frames=257,
    max_steps=200,
    guidance_embedded=True,
    vae_tiling=True,
    prompt_template=PROMPT_TEMPLATE,
    template_tokens=TEMPLATE_TOKENS,
    vae_on_gpu="fp16",
)
