"""The script a user of diffusers would write: load, generate, save. ``bench/pipeline.py`` times it
as a whole.

    python bench/lib/plain_diffusers.py MODEL_PATH PROMPT SEED STEPS DTYPE THREADS OUTPUT.mp4

It imports nothing of this project. Size, frame count, guidance and negative prompt are the
checkpoint's own, from its ``triton_video.json``.
"""

import json
import sys
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import torch
from diffusers import AutoencoderKLWan, WanPipeline
from diffusers.pipelines.wan.pipeline_output import WanPipelineOutput

path, prompt, seed, steps, dtype, threads, target = sys.argv[1:]
defaults = json.loads((Path(path) / "triton_video.json").read_text())
fps = defaults.pop("fps")
torch.set_num_threads(int(threads))
vae = AutoencoderKLWan.from_pretrained(path, subfolder="vae", dtype=torch.float32)
pipeline = WanPipeline.from_pretrained(path, vae=vae, dtype=getattr(torch, dtype))
output = pipeline(
    **{**defaults, "num_inference_steps": int(steps)},
    prompt=prompt,
    generator=torch.Generator("cpu").manual_seed(int(seed)),
)
assert isinstance(output, WanPipelineOutput)
frames = np.asarray(output.frames[0])
iio.imwrite(
    target, (frames * 255).round().astype(np.uint8), plugin="pyav", codec="libx264", fps=fps
)
