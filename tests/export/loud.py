"""A T5 whose gates and residual stream are as large as those of a trained one can get."""

from __future__ import annotations

import torch
from transformers.models.umt5.modeling_umt5 import UMT5EncoderModel


def make_loud(encoder: UMT5EncoderModel) -> UMT5EncoderModel:
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if ".wi_" in name:
                parameter.mul_(400)
            if name.endswith("layer_norm.weight"):
                parameter.mul_(3)
    return encoder
