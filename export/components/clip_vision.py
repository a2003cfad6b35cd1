"""The CLIP image encoder of Wan 2.1 I2V: one graph, ``model``.

The transformer reads the last hidden state but one, so the last layer is not exported.
"""

from __future__ import annotations

from typing import Any

import torch

from export.components.base import Bounds, Component
from export.graph import Graph, Port, Range, Size
from pipeline.ensemble.tensors import IMAGE_EMBEDS, PIXEL_VALUES

MAX_IMAGES = 2  # the first image of a video and the last one


def graphs(model: Any, bounds: Bounds) -> tuple[Graph, ...]:
    """Return the graph from ``PIXEL_VALUES``, float32 [batch, 3, side, side], to ``IMAGE_EMBEDS``,
    float32 [batch, patches + 1, hidden_size].

    Pixels are as the checkpoint's image processor makes them: normalised, in the one size that the
    model knows. ``model`` is changed in place.
    """
    del bounds
    config = model.config
    shape = (Size("batch"), config.num_channels, config.image_size, config.image_size)
    return (
        Graph(
            name="model",
            module=_HiddenState(model).eval(),
            inputs=(Port(PIXEL_VALUES.name, torch.float32, shape),),
            outputs=(IMAGE_EMBEDS.name,),
            ranges={"batch": Range(1, 1, MAX_IMAGES)},
        ),
    )


class _HiddenState(torch.nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        model.encoder.layers = model.encoder.layers[:-1]
        self.model = model

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        # The model itself casts the pixels to the type of its weights.
        return self.model(pixel_values=pixel_values).last_hidden_state.float()


def _model_class() -> type[Any]:
    from transformers.models.clip.modeling_clip import CLIPVisionModel

    return CLIPVisionModel


COMPONENT = Component(_model_class, graphs)
