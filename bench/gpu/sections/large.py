"""Memory and seconds of a forward pass of the large models: is the memory plan right?"""

from __future__ import annotations

from pathlib import Path

from bench.gpu.results import report
from bench.gpu.sizes import Sizes

TINY_HUNYUAN = {
    "num_layers": 1,
    "num_single_layers": 1,
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "num_refiner_layers": 1,
    "text_embed_dim": 32,
    "pooled_projection_dim": 24,
    "rope_axes_dim": (4, 6, 6),
}


def run(work: Path, sizes: Sizes) -> None:  # noqa: ARG001 - every section's signature
    """Report both models; the rotary tables and texts are of the published lengths."""
    from bench.gpu.measuring import reset_peak

    reset_peak()
    _wan(sizes)
    reset_peak()
    _hunyuan(sizes)


def _wan(sizes: Sizes) -> None:
    import torch
    from diffusers import WanTransformer3DModel

    from bench.gpu.checkpoints import random_model
    from bench.gpu.measuring import DEVICE, peak_gb, seconds

    size = {} if sizes.tiny else {"num_attention_heads": 40, "ffn_dim": 13824, "num_layers": 40}
    grid = (3, 4, 6) if sizes.tiny else (21, 90, 160)
    model = random_model(WanTransformer3DModel, torch.bfloat16, **{**sizes.transformer, **size})
    weights = peak_gb()
    inputs = {
        "hidden_states": torch.randn(1, 16, *grid, device=DEVICE, dtype=torch.bfloat16),
        "timestep": torch.tensor([500.0], device=DEVICE),
        "encoder_hidden_states": torch.randn(
            1, 512, sizes.text_dim, device=DEVICE, dtype=torch.bfloat16
        ),
        "return_dict": False,
    }
    with torch.inference_mode():
        taken = seconds(lambda: model(**inputs), 1, 0)
    note = f"weights {weights:.1f} GB, peak {peak_gb():.1f} GB"
    report("A14B expert 720p81: a forward pass, cold", taken, "s", note)


def _hunyuan(sizes: Sizes) -> None:
    """With the text's mask, as one rank runs it, and with the text cut, as several ranks do."""
    import torch
    from diffusers import HunyuanVideoTransformer3DModel

    from bench.gpu.checkpoints import random_model
    from bench.gpu.measuring import DEVICE, peak_gb, seconds
    from pipeline.parallel import sharding
    from pipeline.parallel.mesh import Mesh
    from pipeline.parallel.sequence import Sharding

    bf16 = {"device": DEVICE, "dtype": torch.bfloat16}
    config = TINY_HUNYUAN if sizes.tiny else {}
    grid = (2, 4, 6) if sizes.tiny else (12, 90, 160)
    model = random_model(HunyuanVideoTransformer3DModel, torch.bfloat16, **config)
    inputs = {
        "hidden_states": torch.randn(1, 16, *grid, **bf16),
        "timestep": torch.tensor([500], device=DEVICE),
        "encoder_hidden_states": torch.randn(1, 60, model.config.text_embed_dim, **bf16),
        "encoder_attention_mask": torch.ones(1, 60, **bf16),
        "pooled_projections": torch.randn(1, model.config.pooled_projection_dim, **bf16),
        "guidance": torch.tensor([6000.0], **bf16),
        "return_dict": False,
    }
    made = []
    with torch.inference_mode():
        taken = seconds(lambda: made.append(model(**inputs)[0].float()), 1, 0)
        name = "HunyuanVideo 720p45, text masked: a forward pass"
        report(name, taken, "s", f"peak {peak_gb():.1f} GB")
        shard = sharding._SHARDERS["HunyuanVideoTransformer3DModel"]
        shard(model, Sharding(Mesh()), False)
        taken = seconds(lambda: made.append(model(**inputs)[0].float()), 1, 0)
    off = ((made[1] - made[0]).norm() / made[0].norm()).item()
    name = "HunyuanVideo 720p45, text cut: a forward pass"
    report(name, taken, "s", f"off by {off:.1e}")
