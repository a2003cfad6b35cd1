"""Tiny checkpoints with random weights, in odd sizes so that no two dimensions are equal by accident."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from transformers.models.umt5.configuration_umt5 import UMT5Config
from transformers.models.umt5.modeling_umt5 import UMT5EncoderModel

# One more residual block a level changes the time of the export and nothing that these tests look at.
VAES: dict[str, dict[str, Any]] = {
    "wan21": {
        "base_dim": 6,
        "z_dim": 5,
        "dim_mult": [1, 2, 4, 4],
        "num_res_blocks": 0,
        "temperal_downsample": [False, True, True],
    },
    "patched": {
        "base_dim": 8,
        "z_dim": 7,
        "dim_mult": [1, 2, 4],
        "num_res_blocks": 0,
        "temperal_downsample": [True, True],
        "in_channels": 12,
        "out_channels": 12,
        "patch_size": 2,
    },
    # As Wan 2.2 5B, with a temporal compression of 2 for a change.
    "residual": {
        "base_dim": 8,
        "decoder_base_dim": 12,
        "z_dim": 3,
        "dim_mult": [1, 1],
        "num_res_blocks": 0,
        "temperal_downsample": [True],
        "is_residual": True,
        "in_channels": 12,
        "out_channels": 12,
        "patch_size": 2,
    },
}


@pytest.fixture(scope="session")
def vae_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The component folder of the VAE that the test's parameter names."""
    config = VAES[request.param]
    torch.manual_seed(1)
    z_dim = config["z_dim"]
    mean, std = torch.randn(z_dim).tolist(), (torch.rand(z_dim) + 0.5).tolist()
    vae = AutoencoderKLWan(**config, latents_mean=mean, latents_std=std)
    _perturb(vae)
    folder = tmp_path_factory.mktemp(request.param)
    vae.save_pretrained(folder)
    return folder


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
    _perturb(model)
    folder = tmp_path_factory.mktemp("text_encoder")
    model.save_pretrained(folder)
    return folder


def _perturb(model: torch.nn.Module) -> None:
    """Some parameters start as zeros or ones, where a mistake in the graph would not show."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
