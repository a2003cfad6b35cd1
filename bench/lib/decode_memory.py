"""Decodes random latents in this process and prints by how many bytes its resident memory grew at
most.

    python bench/lib/decode_memory.py ours|diffusers FOLDER LATENT_FRAMES LATENT_SIDE THREADS

FOLDER is that of the stage ``vae_decoder`` in a rendered repository, or the checkpoint's ``vae``.
``bench/pipeline.py`` starts it once for each number, so that no run profits from the memory of
another.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def main(side: str, folder: Path, frames: int, latent_side: int, threads: int) -> None:
    prepare = _ours if side == "ours" else _diffusers
    decode = prepare(folder, threads)
    channels = json.loads(
        (folder / ("model.json" if side == "ours" else "config.json")).read_text()
    )
    depth = channels["latent_channels" if side == "ours" else "z_dim"]
    latents = np.random.default_rng(0).standard_normal(
        (1, depth, frames, latent_side, latent_side), np.float32
    )
    # The peak starts anew here. (ru_maxrss would not do: it holds that of loading, and even the
    # parent's before exec.)
    Path("/proc/self/clear_refs").write_text("5")
    before = _resident("VmRSS")
    decode(latents)
    print(_resident("VmHWM") - before)


def _ours(folder: Path, threads: int) -> Callable[[np.ndarray], None]:
    """As the stage does it: chunk by chunk into the MP4 file."""
    from pipeline.decoders import Decoder, frames_to_uint8
    from pipeline.decoders.chunked import ChunkedEngine
    from pipeline.media.mp4 import Mp4Writer

    decoder = Decoder(ChunkedEngine.open(folder, threads))

    def decode(latents: np.ndarray) -> None:
        chunks = decoder.decode(latents)
        frames = frames_to_uint8(next(chunks))
        with Mp4Writer(frames.shape[2], frames.shape[1], 16) as writer:
            writer.add(frames)
            for chunk in chunks:
                writer.add(frames_to_uint8(chunk))
            writer.finish()

    return decode


def _diffusers(folder: Path, threads: int) -> Callable[[np.ndarray], None]:
    """As ``WanPipeline`` does it: all frames at once, without counting what becomes of them."""
    import torch
    from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan

    torch.set_num_threads(threads)
    vae = AutoencoderKLWan.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True
    ).eval()

    def decode(latents: np.ndarray) -> None:
        with torch.inference_mode():
            vae.decode(torch.from_numpy(latents), return_dict=False)

    return decode


def _resident(field: str) -> int:
    """Bytes now (VmRSS) or at the highest (VmHWM); proc_pid_status(5)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{field}:"))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:]))
