"""The computation of one rank of an encoder: its share of the work from token ids or pixels to
embeddings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from pipeline.checkpoint.folder import Checkpoint
from pipeline.checkpoint.loading import require_loaded
from pipeline.decoders.torch_vae import DTYPES
from pipeline.ensemble.stages import ENCODERS, IMAGE_ENCODER, TEXT_ENCODER, TEXT_ENCODER_2
from pipeline.families.hunyuan import SKIPPED_LAYERS
from pipeline.families.parts import PARTS
from pipeline.parallel.tensor import shard_text_encoder
from pipeline.ranks.messages import Setup
from pipeline.ranks.rendezvous import device_of, init_process_group
from pipeline.ranks.wire import Arrays

if TYPE_CHECKING:
    from pipeline.ranks.offload import ExpertSwapper


@dataclass(frozen=True)
class Kind:
    """How a part's model is prepared and called.

    ``narrow`` drops the layers whose output is not used. ``call`` takes the tensors of the stage's
    inputs, in their order, and returns the embeddings.
    """

    narrow: Callable[[Any], None]
    call: Callable[..., torch.Tensor]


def _narrow_text(model: Any) -> None:
    if type(model).__name__ == "LlamaModel":
        # The export does the same: HunyuanVideo reads the third last of the hidden states.
        model.layers, model.norm = model.layers[:-SKIPPED_LAYERS], torch.nn.Identity()
        model.config.use_cache = False


def _narrow_image(model: Any) -> None:
    # Wan reads the last hidden state but one.
    model.encoder.layers = model.encoder.layers[:-1]


def _embeds(model: Any, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the last hidden state, (B, L, D)."""
    return model(input_ids=ids, attention_mask=mask).last_hidden_state


def _pooled(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """Return the vector of the text's end, (B, P)."""
    return model(input_ids=ids).pooler_output


def _hidden(model: Any, pixels: torch.Tensor) -> torch.Tensor:
    """Return the hidden states of all patches, (B, N, E)."""
    return model(pixel_values=pixels).last_hidden_state


KINDS = {
    TEXT_ENCODER.name: Kind(_narrow_text, _embeds),
    TEXT_ENCODER_2.name: Kind(_narrow_text, _pooled),
    IMAGE_ENCODER.name: Kind(_narrow_image, _hidden),
}


class Encoder:
    """Holds this rank's share of one encoder. All ranks make the same calls."""

    def __init__(self, setup: Setup) -> None:
        """Join the other ranks, then load the weights.

        They are memory-mapped, so that the shares of other ranks are not kept.
        """
        settings, ranks = setup.settings, setup.ranks
        torch.set_num_threads(settings.threads or max(1, torch.get_num_threads() // ranks))
        self.leads = setup.rank == 0
        self.device = device_of(setup.device)
        self._kind, self._stage = KINDS[setup.part], ENCODERS[setup.part]
        if ranks > 1:
            init_process_group(setup, self.device)
        checkpoint = Checkpoint.open(settings.checkpoint_path)
        part = PARTS[setup.part]
        model = load(checkpoint, setup.part, DTYPES[settings.precision_of(part)])
        if ranks > 1:
            shard_text_encoder(model, setup.rank, ranks, _sum_over_ranks)
        self._swapper: ExpertSwapper | None = None
        if settings.text_encoder_offload:
            from torch.cuda._pin_memory_utils import pin_memory

            from pipeline.ranks.host_weights import HostWeights
            from pipeline.ranks.offload import ExpertSwapper

            pin = settings.pin_cpu_memory and self.device.type == "cuda"
            if pin:
                HostWeights.move(model).pin(pin_memory)
            self._swapper = ExpertSwapper(
                [model], lambda tensor: tensor.to(self.device, non_blocking=pin)
            )
        self._model = model if self._swapper else model.to(self.device)

    def run(self, arrays: Arrays) -> Arrays:
        """Encode the stage's inputs: token ids and masks int64 (B, L), or pixels float32 (B, 3,
        side, side).

        Returns the stage's output, float32.
        """
        given = (
            torch.tensor(arrays[tensor.name], device=self.device) for tensor in self._stage.inputs
        )
        model = self._swapper[0] if self._swapper else self._model
        with torch.inference_mode():
            made = self._kind.call(model, *given).float().cpu().numpy()
        if self._swapper:
            self._swapper.release()
            if self.device.type == "cuda":
                torch.cuda.empty_cache()  # for the other processes of this GPU
        (output,) = self._stage.outputs
        return {output.name: made}


def load(checkpoint: Checkpoint, part: str, dtype: torch.dtype) -> Any:
    """Load the encoder of a part on the CPU, without the layers whose output is not used."""
    import transformers

    component = PARTS[part].component
    # The projection of an image encoder with one is not used.
    name = checkpoint.classes[component].removesuffix("WithProjection")
    model, report = getattr(transformers, name).from_pretrained(
        checkpoint.path / component,
        dtype=dtype,
        local_files_only=True,
        use_safetensors=True,
        output_loading_info=True,
    )
    require_loaded(report, checkpoint.path / component)
    KINDS[part].narrow(model)
    return model.eval()


def _sum_over_ranks(part: torch.Tensor) -> torch.Tensor:
    dist.all_reduce(part)
    return part
