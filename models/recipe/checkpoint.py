"""Write the trained networks as a Diffusers checkpoint folder."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

from models.recipe import autoencoder, text
from models.recipe.train_dit import FRAMES, SHIFT, SIZE, Denoiser

DEFAULTS = {
    "height": SIZE,
    "width": SIZE,
    "num_frames": FRAMES,
    "fps": 8,
    "num_inference_steps": 20,
    "guidance_scale": 4.0,
    "negative_prompt": "",
    "max_sequence_length": text.MAX_LENGTH,
}


def load_checkpoint(
    folder: Path,
) -> tuple[AutoencoderKLWan, Denoiser, PreTrainedTokenizerFast]:
    """Return the networks of a checkpoint folder in fp32, and its tokenizer."""
    pipeline = WanPipeline.from_pretrained(folder, dtype=torch.float32)
    networks = Denoiser(len(pipeline.tokenizer))
    networks.load_state_dict(
        {f"text_encoder.{k}": v for k, v in pipeline.text_encoder.state_dict().items()}
        | {f"transformer.{k}": v for k, v in pipeline.transformer.state_dict().items()}
    )
    # The pipeline's own VAE would write the folder's path into its config.
    vae = autoencoder.build()
    vae.register_to_config(
        **{name: pipeline.vae.config[name] for name in ("latents_mean", "latents_std")}
    )
    vae.load_state_dict(pipeline.vae.state_dict())
    return vae.eval(), networks, pipeline.tokenizer


def write_checkpoint(
    vae: AutoencoderKLWan,
    text_encoder: UMT5EncoderModel,
    transformer: WanTransformer3DModel,
    tokenizer: PreTrainedTokenizerFast,
    output: Path,
) -> None:
    """Replace the folder ``output`` with the checkpoint, with weights in bf16; the old folder stays
    until the new one is complete.
    """
    scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction",
        use_flow_sigmas=True,
        num_train_timesteps=1000,
        flow_shift=SHIFT,
    )
    # diffusers annotates only one of several supported classes.
    parts: dict[str, Any] = {"tokenizer": tokenizer, "scheduler": scheduler}
    pipeline = WanPipeline(
        text_encoder=text_encoder,
        vae=vae,
        transformer=transformer,
        expand_timesteps=True,  # the first latent frames may be given, see `train_prefix`
        **parts,
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as folder:
        staged = Path(folder) / output.name
        pipeline.to(torch.bfloat16).save_pretrained(staged, safe_serialization=True)
        (staged / "triton_video.json").write_text(json.dumps(DEFAULTS, indent=2) + "\n")
        if output.exists():
            for kept in output.glob("*.md"):
                shutil.copy(kept, staged / kept.name)
            shutil.rmtree(output)
        staged.rename(output)
