"""One forward pass of 24 frames: attention kernels of diffusers, fused projections, compilation."""

from __future__ import annotations

import time
from pathlib import Path

from bench.gpu.results import report
from bench.gpu.sizes import Sizes


def run(work: Path, sizes: Sizes) -> None:  # noqa: ARG001 - every section's signature
    """Report seconds of each variant, and how far compiled blocks are from eager ones."""
    import torch
    from diffusers import WanTransformer3DModel

    from bench.gpu.checkpoints import random_model
    from bench.gpu.measuring import DEVICE, first_line, seconds, synchronize

    inputs = {
        "hidden_states": torch.randn(
            1, 16, *sizes.short.latents, device=DEVICE, dtype=torch.bfloat16
        ),
        "timestep": torch.tensor([500.0], device=DEVICE),
        "encoder_hidden_states": torch.randn(
            1, 512, sizes.text_dim, device=DEVICE, dtype=torch.bfloat16
        ),
        "return_dict": False,
    }
    model = random_model(WanTransformer3DModel, torch.bfloat16, **sizes.transformer)
    with torch.inference_mode():
        expected = model(**inputs)[0].float()
        report("forward, eager", seconds(lambda: model(**inputs), 5), "s")
        for kernel in () if sizes.tiny else ("_native_cudnn", "_native_flash", "_native_efficient"):
            try:
                model.set_attention_backend(kernel)
                report(f"forward, {kernel}", seconds(lambda: model(**inputs), 5), "s")
            except (RuntimeError, ValueError) as error:
                report(f"forward, {kernel}", "no", note=first_line(error))
        model.set_attention_backend("native")
        model.fuse_qkv_projections()
        report("forward, fused projections", seconds(lambda: model(**inputs), 5), "s")
        model.compile_repeated_blocks(fullgraph=True)
        started = time.perf_counter()
        made = model(**inputs)[0].float()
        synchronize()
        report("compiling blocks", time.perf_counter() - started, "s")
        off = ((made - expected).norm() / expected.norm()).item()
        report("forward, compiled", seconds(lambda: model(**inputs), 5), "s", f"off by {off:.1e}")
