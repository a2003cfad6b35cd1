"""Stage ``dit``: from text embeddings and a seed to clean latents, by the checkpoint's transformer in torch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

from pipeline.checkpoint import Checkpoint
from pipeline.denoising import BATCHED_GUIDANCE_TOKENS, denoise
from pipeline.scheduling import build_scheduler
from pipeline.spec import VideoRequest
from pipeline.stages.settings import Precision

DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}


class DitStage:
    """Holds the transformer; one request at a time."""

    def __init__(self, checkpoint: Checkpoint, precision: Precision, threads: int):
        """Raises ``CheckpointError`` for a family that cannot be denoised yet."""
        checkpoint.require_denoising()
        # Said even when it is the default: it also keeps MKL from choosing a number of threads, and with it an order of
        # summation, for each product anew. The same seed is to give the same bits.
        torch.set_num_threads(threads or torch.get_num_threads())
        self.info = checkpoint.info
        self._scheduler = checkpoint.classes["scheduler"], checkpoint.configs["scheduler"]
        self._dtype = DTYPES[precision]
        self._transformer = WanTransformer3DModel.from_pretrained(
            checkpoint.path / "transformer", dtype=self._dtype, local_files_only=True, use_safetensors=True
        ).eval()

    def run(
        self,
        request: VideoRequest,
        prompt_embeds: np.ndarray,
        negative_embeds: np.ndarray,
        before_step: Callable[[int], None],
    ) -> np.ndarray:
        """Embeddings float32 (1, L, D), not padded, to normalised latents float32 (1, C, T, H, W).

        ``before_step(i)`` is called before each denoising step and may raise to stop.
        """
        shape = self.info.latent_shape(request)
        scheduler = build_scheduler(*self._scheduler, request.flow_shift, request.num_inference_steps)
        guided = request.guidance_scale > 1
        with torch.inference_mode():
            latents = denoise(
                self._transformer,
                initial_noise(shape, request.seed),
                scheduler,
                self._embeds(prompt_embeds),
                self._embeds(negative_embeds) if guided else None,
                request.guidance_scale,
                batch_guidance=self._tokens(shape) <= BATCHED_GUIDANCE_TOKENS,
                before_step=before_step,
            )
        return latents.float().numpy()

    def _embeds(self, embeds: np.ndarray) -> torch.Tensor:
        """Zero-padded to the length the transformer was trained with: it attends to the padding too."""
        missing = self.info.defaults.max_sequence_length - embeds.shape[1]
        padded = torch.nn.functional.pad(torch.from_numpy(embeds), (0, 0, 0, missing))
        return padded.to(self._dtype)

    def _tokens(self, shape: tuple[int, int, int, int, int]) -> int:
        _, _, frames, height, width = shape
        return frames * (height // self.info.patch_size) * (width // self.info.patch_size)


def initial_noise(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """The noise that diffusers' ``randn_tensor`` draws for a CPU generator of this seed: float32, on the CPU."""
    return torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed), dtype=torch.float32)
