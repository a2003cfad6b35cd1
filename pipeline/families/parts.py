"""Declare the parts of a model repository that are exported from a checkpoint.

Export, memory plan, ranks and command line iterate over this table instead of parsing names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

PartKind = Literal["text", "image", "vae"]


@dataclass(frozen=True)
class Part:
    """One exported model. The Triton stage that runs it has the same ``name``.

    ``component`` is the checkpoint's folder that holds its weights; a VAE has two parts. ``index``
    numbers the parts of one ``kind``. ``preprocessor`` is the checkpoint's folder of the tokenizer
    or image processor that prepares its inputs, if any.
    """

    name: str
    component: str
    kind: PartKind
    index: int = 0
    preprocessor: str | None = None


TEXT_ENCODER = Part("text_encoder", "text_encoder", "text", 0, "tokenizer")
TEXT_ENCODER_2 = Part("text_encoder_2", "text_encoder_2", "text", 1, "tokenizer_2")
IMAGE_ENCODER = Part("image_encoder", "image_encoder", "image", 0, "image_processor")
VAE_ENCODER = Part("vae_encoder", "vae", "vae", 0)
VAE_DECODER = Part("vae_decoder", "vae", "vae", 1)

PARTS: Mapping[str, Part] = {
    part.name: part
    for part in (TEXT_ENCODER, TEXT_ENCODER_2, IMAGE_ENCODER, VAE_ENCODER, VAE_DECODER)
}
"""Maps the name of a part to the part, in the order in which families list them."""

TRANSFORMERS = ("transformer", "transformer_2")
"""The checkpoint's folders of the transformers. They are not exported: ``dit`` runs them in torch.
"""
