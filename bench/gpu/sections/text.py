"""UMT5-XXL in bf16 on the device: what encoding a prompt there would take."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from bench.gpu.results import report
from bench.gpu.sizes import Sizes

PUBLISHED: dict[str, Any] = {
    "d_model": 4096,
    "d_ff": 10240,
    "d_kv": 64,
    "num_heads": 64,
    "num_layers": 24,
    "vocab_size": 256384,
    "feed_forward_proj": "gated-gelu",
}
TINY: dict[str, Any] = {
    "d_model": 32,
    "d_ff": 64,
    "d_kv": 8,
    "num_heads": 4,
    "num_layers": 2,
    "vocab_size": 500,
}


def run(work: Path, sizes: Sizes) -> None:  # noqa: ARG001 - every section's signature
    """Report milliseconds of a short and of the longest prompt."""
    import torch
    from transformers import UMT5Config, UMT5EncoderModel

    from bench.gpu.measuring import DEVICE, peak_gb, seconds

    torch.set_default_dtype(torch.bfloat16)
    with DEVICE:
        model = UMT5EncoderModel(UMT5Config(**(TINY if sizes.tiny else PUBLISHED))).eval()
    torch.set_default_dtype(torch.float32)
    for length in (40, 512):
        ids = torch.randint(0, 400, (1, length), device=DEVICE)
        encode = partial(model, input_ids=ids, attention_mask=torch.ones_like(ids))
        with torch.inference_mode():
            taken = seconds(encode)
        name = f"UMT5-XXL bf16, {length} tokens"
        report(name, taken * 1e3, "ms", f"{peak_gb():.1f} GB")
