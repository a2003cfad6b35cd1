"""The computation of one rank of a text encoder: its share of the work from token ids to
embeddings.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from pipeline.checkpoint.folder import Checkpoint
from pipeline.checkpoint.loading import require_loaded
from pipeline.ensemble.tensors import ATTENTION_MASK, INPUT_IDS, PROMPT_EMBEDS
from pipeline.families.hunyuan import SKIPPED_LAYERS
from pipeline.families.parts import TEXT_ENCODER
from pipeline.parallel.tensor import shard_text_encoder
from pipeline.ranks.messages import Setup
from pipeline.ranks.rendezvous import device_of, init_process_group
from pipeline.ranks.wire import Arrays

COMPONENT = TEXT_ENCODER.component


class Encoder:
    """Holds this rank's share of the first text encoder. All ranks make the same calls."""

    def __init__(self, setup: Setup) -> None:
        """Join the other ranks, then load the weights.

        They are memory-mapped, so that the shares of other ranks are not kept.
        """
        settings, ranks = setup.settings, setup.ranks
        torch.set_num_threads(settings.threads or max(1, torch.get_num_threads() // ranks))
        self.leads = setup.rank == 0
        self.device = device_of(setup.rank)
        init_process_group(setup, self.device)
        checkpoint = Checkpoint.open(settings.checkpoint_path)
        bf16 = settings.text_encoder_precisions[:1] == ("bf16",)
        model = load(checkpoint, torch.bfloat16 if bf16 else torch.float32)
        shard_text_encoder(model, setup.rank, ranks, _sum_over_ranks)
        self._model = model.to(self.device)

    def run(self, arrays: Arrays) -> Arrays:
        """Encode ``INPUT_IDS`` and ``ATTENTION_MASK``, int64 (B, L).

        Returns ``PROMPT_EMBEDS`` float32 (B, L, D).
        """
        ids, mask = (
            torch.tensor(arrays[tensor.name], device=self.device)
            for tensor in (INPUT_IDS, ATTENTION_MASK)
        )
        return {PROMPT_EMBEDS.name: embeds(self._model, ids, mask)}


def load(checkpoint: Checkpoint, dtype: torch.dtype) -> Any:
    """Load the whole text encoder on the CPU, without the layers whose output is not used."""
    import transformers

    kind = getattr(transformers, checkpoint.classes[COMPONENT])
    model, report = kind.from_pretrained(
        checkpoint.path / COMPONENT,
        dtype=dtype,
        local_files_only=True,
        use_safetensors=True,
        output_loading_info=True,
    )
    require_loaded(report, checkpoint.path / COMPONENT)
    if checkpoint.classes[COMPONENT] == "LlamaModel":
        # The export does the same: HunyuanVideo reads the third last of the hidden states.
        model.layers, model.norm = model.layers[:-SKIPPED_LAYERS], torch.nn.Identity()
        model.config.use_cache = False
    return model.eval()


@torch.inference_mode()
def embeds(model: Any, ids: torch.Tensor, mask: torch.Tensor) -> np.ndarray:
    """Return the last hidden state, float32 (B, L, D)."""
    return model(input_ids=ids, attention_mask=mask).last_hidden_state.float().cpu().numpy()


def _sum_over_ranks(part: torch.Tensor) -> torch.Tensor:
    dist.all_reduce(part)
    return part
