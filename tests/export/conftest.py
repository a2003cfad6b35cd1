"""Tiny checkpoints with random weights, in odd sizes so that no two dimensions are equal by
accident.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers.models.umt5.configuration_umt5 import UMT5Config
from transformers.models.umt5.modeling_umt5 import UMT5EncoderModel

from tests import vaes


@pytest.fixture(scope="session")
def vae_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The component folder of the VAE that the test's parameter names."""
    return vaes.build(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="session")
def text_encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(2)
    config = UMT5Config(
        vocab_size=67,
        d_model=20,
        d_kv=5,
        d_ff=18,
        num_layers=2,
        num_heads=3,
        relative_attention_num_buckets=8,
        relative_attention_max_distance=16,
    )
    model = UMT5EncoderModel(config)
    vaes.perturb(model)
    folder = tmp_path_factory.mktemp("text_encoder")
    model.save_pretrained(folder)
    return folder
