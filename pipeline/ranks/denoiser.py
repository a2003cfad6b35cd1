"""The computation of one rank: its share of the work from conditions and a seed to clean
latents.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence, Set
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from diffusers.models.transformers.transformer_hunyuan_video import HunyuanVideoTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from torch.cuda._pin_memory_utils import pin_memory

from pipeline.checkpoint.folder import Checkpoint
from pipeline.checkpoint.loading import require_loaded
from pipeline.diffusion.denoising import Predict, Sample, denoise
from pipeline.diffusion.guidance import (
    Experts,
    Guide,
    Predictor,
    batched_up_to,
    on_separate_ranks,
    tokens_of,
)
from pipeline.diffusion.residual_ratios import Ratios, ResidualRatios
from pipeline.diffusion.samples import Arrays, Samples
from pipeline.diffusion.step_cache import BlockStack
from pipeline.errors import CheckpointError
from pipeline.families import VideoRequest
from pipeline.lora.layers import LoraLayers, merge
from pipeline.parallel.attention import target_of
from pipeline.parallel.backends import Kernel, choose_kernel, head_of
from pipeline.parallel.layout import BATCHED_GUIDANCE_TOKENS, CPU_PASS_TOKENS
from pipeline.parallel.mesh import Mesh
from pipeline.parallel.sharding import shard_transformer
from pipeline.ranks.batch import Batch
from pipeline.ranks.compiling import Compiler, blocks_of
from pipeline.ranks.host_weights import load_shared
from pipeline.ranks.inside_step import InsideStep
from pipeline.ranks.messages import Setup
from pipeline.ranks.offload import ExpertSwapper, offload_layers
from pipeline.ranks.peak_memory import take_peak_bytes
from pipeline.ranks.rendezvous import device_of, init_process_group
from pipeline.settings import Precision

TRANSFORMERS: dict[str, Any] = {
    "WanTransformer3DModel": WanTransformer3DModel,
    "HunyuanVideoTransformer3DModel": HunyuanVideoTransformer3DModel,
}
ESTIMATE_S = 1.0
DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Denoiser:
    """Holds the transformers and runs one batch of requests at a time. All ranks make the same
    calls.
    """

    def __init__(self, setup: Setup) -> None:
        """Join the other ranks, then load the weights directly to the device that needs them."""
        settings, layout = setup.settings, setup.settings.layout
        # Set even if it is the default: otherwise MKL chooses a number of threads, and with it an
        # order of summation, for each product. The same seed must give the same bits.
        torch.set_num_threads(settings.threads or max(1, torch.get_num_threads() // layout.ranks))
        self.leads = setup.rank == 0
        self.device = device_of(setup.device)
        self._mesh, self._control, store = _join(setup, self.device)
        checkpoint = Checkpoint.open(settings.checkpoint_path)
        self._settings = settings
        self._estimate_at = 0.0
        self._info, self._dtype = checkpoint.info, DTYPES[settings.precision]
        head = head_of(checkpoint.configs["transformer"])
        target = target_of(self.device, self._dtype, head)
        self._kernel: Kernel = choose_kernel(settings.attention_backend, target)
        settings.check_compile()
        self._compiler = Compiler(self.device) if settings.enable_torch_compile else None
        cache = settings.step_cache_of(checkpoint.step_cache)
        self._samples = Samples(
            checkpoint, self.device, self._dtype, cache, previewed=settings.previews and self.leads
        )
        # Offloaded weights are loaded on the host. On a CPU the host is the device itself.
        on_cpu = self.device.type == "cpu"
        offload = "none" if on_cpu else settings.offload
        self._offloads = offload != "none"
        pin = settings.pin_cpu_memory and self._offloads
        shared = self._offloads or (on_cpu and setup.ranks > 1)
        models: Sequence[Any] = [
            self._load_on_host(checkpoint, name, store, pin=pin)
            if shared
            else self._load(checkpoint, name)
            for name in checkpoint.family.transformers
        ]
        loras = () if settings.lora_fixed else settings.loras
        self._loras = LoraLayers(checkpoint, models, loras, self.device, settings.max_loras)
        if offload == "layer":
            for model in models:
                offload_layers(model, self.device)
        stacks = [BlockStack(model) for model in models]
        if offload == "expert":
            models = ExpertSwapper(models, lambda tensor: tensor.to(self.device, non_blocking=pin))
        self._inside = self._watched(models) if on_cpu and layout.ranks == 1 else None
        self._experts = Experts(models, checkpoint.boundary_timestep, stacks)

    def run(
        self,
        requests: Sequence[VideoRequest],
        arrays: Sequence[Arrays],
        before_step: Callable[[Batch], None],
        ratios: Ratios | None = None,
    ) -> dict[int, np.ndarray]:
        """Denoise the requests, given the conditions of each as named in `Task.arrays`.

        Returns normalised latents float32 (1, C, T, H, W) by place in the batch: of all requests
        that were neither stopped nor taken out of the batch before.

        ``before_step`` is called before each denoising step with the batch. A single rank on a CPU
        also calls it once a second within the step. It may stop samples, take out those that are
        done, and add requests: the same ones on all ranks.

        The measured table of the step cache is added to ``ratios``, if there is only one request.
        """
        with torch.inference_mode():
            batch = Batch(self._samples.make, self._phase)
            batch.add(requests, arrays)
            largest = self._largest_pass(self._info.latent_shape(requests[0]))
            predict: Predict = Predictor(self._experts, self._guide(), self._dtype, largest)
            if ratios is not None:
                predict = measuring = ResidualRatios(predict, self._experts)
                ratios += measuring.ratios

            def ask(going: Iterable[Sample]) -> bool:
                before_step(batch)
                return all(sample.stopped for sample in going)

            def begin(_running: Sequence[Sample]) -> None:
                before_step(batch)
                if self._inside:
                    self._inside.begin(partial(ask, batch.running.values()))

            denoise(
                batch.samples.values(),
                self._inside.abandoning(predict) if self._inside else predict,
                begin,
                self._phase,
            )
        return batch.take()

    def choose_loras(self, request: VideoRequest) -> str | None:
        """Apply the LoRAs of ``request``, and load those that are not loaded.

        Returns the error as a sentence if this or another rank cannot read one; none is applied
        then.
        """
        if self._settings.lora_fixed:
            return None
        error = None
        try:
            changed = self._loras.use(request.lora)
        except CheckpointError as found:
            changed, error = True, str(found)
        if changed and self._control is not None:
            failed = torch.tensor([error is not None], dtype=torch.uint8)
            dist.all_reduce(failed, op=dist.ReduceOp.MAX, group=self._control)
            if failed[0] and error is None:
                self._loras.use(())
                error = "another rank cannot read a LoRA"
        return error

    def take_estimate(self, batch: Batch) -> tuple[int, np.ndarray] | None:
        """Return an estimate of ``batch`` with its place, one in ``ESTIMATE_S`` seconds, and none
        if previews are off.
        """
        now = time.monotonic()
        if now < self._estimate_at:
            return None
        if estimate := batch.take_estimate():
            self._estimate_at = now + ESTIMATE_S
        return estimate

    def take_compile_seconds(self) -> float:
        """Return the time that compiling has taken since the last call."""
        return self._compiler.take_seconds() if self._compiler else 0.0

    def take_peak_bytes(self) -> int | None:
        """Return the most memory that this rank has used since the last call, if it is known."""
        return take_peak_bytes(self.device)

    def agree(
        self, places: Iterable[int], stop: Set[int], *, join: bool
    ) -> tuple[frozenset[int], bool]:
        """Return which of the running ``places`` rank 0 stops, and whether requests join, on every
        rank.

        All ranks must run the same samples: if only one rank left a collective, the others would
        wait for it for ever.
        """
        if self._control is None:
            return frozenset(stop), join
        order = list(places)
        word = torch.tensor([join, *(place in stop for place in order)], dtype=torch.uint8)
        dist.broadcast(word, src=0, group=self._control)
        joins, *stops = word.tolist()
        return frozenset(
            place for place, stopped in zip(order, stops, strict=True) if stopped
        ), bool(joins)

    def _phase(self, sample: Sample) -> int:
        """Return the phase of the denoising loop: the expert, if its weights must be copied."""
        return self._experts.index(sample.timestep) if self._offloads else 0

    def _largest_pass(self, shape: tuple[int, int, int, int, int]) -> int | None:
        """Return the maximum number of samples of ``shape`` in one pass; None for no limit."""
        if self.device.type != "cpu":
            return None
        return CPU_PASS_TOKENS * torch.get_num_threads() // tokens_of(shape, self._info.patch_size)

    def _guide(self) -> Guide:
        if self._mesh.branches.size > 1:
            return on_separate_ranks(self._mesh.branches)
        return batched_up_to(BATCHED_GUIDANCE_TOKENS, self._info.patch_size)

    def _load(self, checkpoint: Checkpoint, name: str) -> Any:
        return self._prepared(self._read(checkpoint, name, self.device))

    def _read(self, checkpoint: Checkpoint, name: str, device: torch.device) -> Any:
        """Return the model ``name`` from its files, with fixed LoRAs merged into the weights."""
        model = _from_files(checkpoint, name, self._dtype, device)
        if self._settings.lora_fixed:
            files = {file.name: file for file in self._settings.loras}
            expert = checkpoint.family.transformers.index(name)
            merge(checkpoint, expert, model, files, self._settings.served_loras.chosen(None))
        return model

    def _load_on_host(
        self, checkpoint: Checkpoint, name: str, store: dist.Store | None, *, pin: bool
    ) -> Any:
        """Return the model ``name`` with weights on the host, which all ranks share."""
        model, weights = load_shared(
            name,
            lambda: self._read(checkpoint, name, torch.device("cpu")),
            lambda: _empty(checkpoint, name),
            store,
            leads=self.leads,
        )
        if pin:
            weights.pin(pin_memory)
        return self._prepared(model)

    def _prepared(self, model: Any) -> Any:
        eager_cpu = self.device.type == "cpu" and self._compiler is None
        sharding = shard_transformer(model, self._mesh, self._kernel, on_cpu=eager_cpu)
        if self._compiler:
            self._compiler.compile(model, sharding)
        return model.eval()

    def _watched(self, models: Sequence[Any]) -> InsideStep:
        """Return the means to stop within a step: between linear layers, or compiled blocks."""
        if self._compiler:
            return InsideStep(block for model in models for block in blocks_of(model))
        return InsideStep(
            module
            for model in models
            for module in model.modules()
            if isinstance(module, torch.nn.Linear)
        )


def _from_files(checkpoint: Checkpoint, name: str, dtype: torch.dtype, device: torch.device) -> Any:
    model, report = TRANSFORMERS[checkpoint.classes[name]].from_pretrained(
        checkpoint.path / name,
        output_loading_info=True,
        dtype=dtype,
        device_map=None if device.type == "cpu" else {"": device},
        local_files_only=True,
        use_safetensors=True,
    )
    require_loaded(report, checkpoint.path / name)
    return model


def _empty(checkpoint: Checkpoint, name: str) -> Any:
    """Return the model ``name`` on the meta device, without weights."""
    kind = TRANSFORMERS[checkpoint.classes[name]]
    with torch.device("meta"):
        return kind.from_config(kind.load_config(checkpoint.path / name, local_files_only=True))


def _join(
    setup: Setup, device: torch.device
) -> tuple[Mesh, dist.ProcessGroup | None, dist.Store | None]:
    """Return the mesh, a process group on the CPU for decisions, and the store of the group.

    A single rank needs none of them.
    """
    if setup.ranks == 1:
        return Mesh(), None, None
    store = init_process_group(setup, device)
    control = dist.new_group(backend="gloo")
    assert isinstance(control, dist.ProcessGroup)
    return Mesh.create(setup.settings.layout), control, store
