"""FastWan: Wan distilled by distribution matching (DMD) to three steps without guidance.

Timesteps are those of FastVideo's recipe. Checkpoints trained with sparse attention hold weights
for it, which are not loaded: this pipeline uses full attention.
"""

from __future__ import annotations

from dataclasses import replace

from pipeline.families.family import Family
from pipeline.families.wan21 import WAN21_T2V
from pipeline.families.wan22 import WAN22_TI2V

UNUSED = (r"\.to_gate_compress\.",)
DISTILLED = {
    "num_inference_steps": 3,
    "guidance_scale": 1.0,
    "denoising_timesteps": (1000, 757, 522),
}


def _distilled(family: Family, name: str) -> Family:
    defaults = family.defaults.model_copy(update=DISTILLED)
    return replace(
        family,
        name=name,
        pipeline_classes=("WanDMDPipeline",),
        defaults=defaults,
        unused_weights=UNUSED,
    )


FASTWAN21_T2V = _distilled(WAN21_T2V, "fastwan2.1-t2v")
FASTWAN22_TI2V = _distilled(WAN22_TI2V, "fastwan2.2-ti2v")
