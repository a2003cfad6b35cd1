"""One export config per part and component class. To add a class, add a module beside this one and
a line here.
"""

from __future__ import annotations

from collections.abc import Mapping

from export.components import (
    clip_text,
    clip_vision,
    hunyuan_vae_decoder,
    llama,
    umt5,
    wan_vae_decoder,
    wan_vae_encoder,
)
from export.components.base import Bounds, Component
from pipeline.errors import CheckpointError
from pipeline.families.parts import (
    IMAGE_ENCODER,
    TEXT_ENCODER,
    TEXT_ENCODER_2,
    VAE_DECODER,
    VAE_ENCODER,
    Part,
)

__all__ = ["COMPONENTS", "Bounds", "Component", "component_for"]

COMPONENTS: Mapping[Part, Mapping[str, Component]] = {
    TEXT_ENCODER: {"UMT5EncoderModel": umt5.COMPONENT, "LlamaModel": llama.COMPONENT},
    TEXT_ENCODER_2: {"CLIPTextModel": clip_text.COMPONENT},
    # Which of the two a checkpoint names depends on who wrote it; the projection is not used.
    IMAGE_ENCODER: {
        "CLIPVisionModel": clip_vision.COMPONENT,
        "CLIPVisionModelWithProjection": clip_vision.COMPONENT,
    },
    VAE_ENCODER: {"AutoencoderKLWan": wan_vae_encoder.COMPONENT},
    VAE_DECODER: {
        "AutoencoderKLWan": wan_vae_decoder.COMPONENT,
        "AutoencoderKLHunyuanVideo": hunyuan_vae_decoder.COMPONENT,
    },
}
"""Part of a repository -> class of the checkpoint's component -> how it is exported."""


def component_for(part: Part, class_name: str) -> Component:
    """Return how a class is exported as this part. Raises ``CheckpointError`` that lists the
    supported classes.
    """
    try:
        return COMPONENTS[part][class_name]
    except KeyError:
        known = ", ".join(COMPONENTS.get(part, ())) or "none"
        raise CheckpointError(
            f"a {class_name} cannot be exported as {part.name}; these can: {known}"
        ) from None
