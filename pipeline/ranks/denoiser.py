"""What one rank computes: from text embeddings and a seed to clean latents, its share of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

from pipeline.checkpoint import Checkpoint
from pipeline.denoising import BATCHED_GUIDANCE_TOKENS, Guide, denoise, in_turns, side_by_side, together
from pipeline.parallel.layout import Layout
from pipeline.parallel.mesh import Mesh
from pipeline.parallel.sharding import shard_transformer
from pipeline.ranks.messages import Setup
from pipeline.scheduling import build_scheduler
from pipeline.spec import VideoRequest
from pipeline.stages.settings import Precision

DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Denoiser:
    """Holds the transformer; one request at a time. All ranks make the same calls."""

    def __init__(self, setup: Setup) -> None:
        """Joins the other ranks, then loads the weights straight onto this rank's device."""
        layout = Layout(setup.ulysses, setup.ring, setup.branches)
        # Said even when it is the default: it also keeps MKL from choosing a number of threads, and with it an order of
        # summation, for each product anew. The same seed is to give the same bits.
        torch.set_num_threads(setup.threads or max(1, torch.get_num_threads() // layout.ranks))
        self.leads = setup.rank == 0
        self.device = _device(setup.rank)
        self._mesh, self._control = _join(setup, layout, self.device)
        checkpoint = Checkpoint.open(Path(setup.checkpoint))
        self._info = checkpoint.info
        self._scheduler = checkpoint.classes["scheduler"], checkpoint.configs["scheduler"]
        self._dtype = DTYPES[setup.precision]
        self._transformer = WanTransformer3DModel.from_pretrained(
            checkpoint.path / "transformer",
            dtype=self._dtype,
            device_map=None if self.device.type == "cpu" else {"": self.device},
            local_files_only=True,
            use_safetensors=True,
        ).eval()
        shard_transformer(self._transformer, self._mesh)

    def run(
        self,
        request: VideoRequest,
        prompt_embeds: np.ndarray,
        negative_embeds: np.ndarray,
        before_step: Callable[[int, torch.Tensor], None],
    ) -> np.ndarray:
        """Embeddings float32 (1, L, D), not padded, to normalised latents float32 (1, C, T, H, W).

        ``before_step(i, latents)`` is called before each denoising step and may raise to stop; all ranks' must.
        """
        shape = self._info.latent_shape(request)
        scheduler = build_scheduler(*self._scheduler, request.flow_shift, request.num_inference_steps, str(self.device))
        guided = request.guidance_scale > 1
        with torch.inference_mode():
            latents = denoise(
                self._transformer,
                initial_noise(shape, request.seed).to(self.device),
                scheduler,
                self._embeds(prompt_embeds),
                self._embeds(negative_embeds) if guided else None,
                request.guidance_scale,
                guide=self._guide(shape),
                before_step=before_step,
            )
        return latents.float().cpu().numpy()

    def agree(self, go: bool) -> bool:
        """What rank 0 says, on every rank: no rank may leave the loop alone, or the others wait for it for ever."""
        if self._control is None:
            return go
        word = torch.tensor([go], dtype=torch.uint8)
        dist.broadcast(word, src=0, group=self._control)
        return bool(word)

    def _guide(self, shape: tuple[int, int, int, int, int]) -> Guide:
        if self._mesh.branches.size > 1:
            return side_by_side(self._mesh.branches)
        _, _, frames, height, width = shape
        tokens = frames * (height // self._info.patch_size) * (width // self._info.patch_size)
        return together if tokens <= BATCHED_GUIDANCE_TOKENS else in_turns

    def _embeds(self, embeds: np.ndarray) -> torch.Tensor:
        """Zero-padded to the length the transformer was trained with: it attends to the padding too."""
        missing = self._info.defaults.max_sequence_length - embeds.shape[1]
        padded = torch.nn.functional.pad(torch.from_numpy(embeds), (0, 0, 0, missing))
        return padded.to(self.device, self._dtype)


def initial_noise(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """The noise that diffusers' ``randn_tensor`` draws for a CPU generator of this seed: float32, on the CPU."""
    return torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed), dtype=torch.float32)


def _device(rank: int) -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    torch.cuda.set_device(rank)
    return torch.device("cuda", rank)


def _join(setup: Setup, layout: Layout, device: torch.device) -> tuple[Mesh, dist.ProcessGroup | None]:
    """The mesh, and a group on the CPU for decisions; one rank needs neither."""
    if layout.ranks == 1:
        return Mesh(), None
    store = dist.FileStore(setup.store, layout.ranks)
    backend = "gloo" if device.type == "cpu" else "nccl"
    dist.init_process_group(backend, store=store, rank=setup.rank, world_size=layout.ranks)
    control = dist.new_group(backend="gloo")
    assert isinstance(control, dist.ProcessGroup)
    return Mesh.create(layout), control
