"""What the checkpoints of all families are made of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

SPECIAL = ["<pad>", "</s>", "<unk>", "<s>"]
WORDS = [
    "a",
    "red",
    "blue",
    "green",
    "circle",
    "square",
    "moves",
    "left",
    "right",
    "on",
    "white",
    "black",
]
SMALL = {
    "height": 32,
    "width": 48,
    "num_frames": 9,
    "fps": 8,
    "num_inference_steps": 4,
    "max_sequence_length": 20,
}


def tokenizer(*, start: bool = False) -> PreTrainedTokenizerFast:
    """One token a word; a text ends with ``</s>`` and begins with ``<s>`` where ``start`` says
    so.
    """
    words = [*SPECIAL[: 4 if start else 3], *WORDS]
    made = Tokenizer(
        models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>")
    )
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    marks = [(token, words.index(token)) for token in (("<s>", "</s>") if start else ("</s>",))]
    text = "<s> $A </s>" if start else "$A </s>"
    made.post_processor = processors.TemplateProcessing(single=text, special_tokens=marks)
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


def shake(*modules: torch.nn.Module) -> None:
    """Give parameters that start at zero or one values of their own: a branch of zeros would
    hide an error in it.
    """
    with torch.no_grad():
        for module in modules:
            for parameter in module.parameters():
                parameter.add_(0.02 * torch.randn_like(parameter))


def save(pipeline: Any, folder: Path, *, shard: bool, **defaults: int) -> Path:
    """Write a diffusers pipeline as a checkpoint whose defaults are quick to make."""
    pipeline.save_pretrained(folder, max_shard_size="60KB" if shard else "5GB")
    (folder / "triton_video.json").write_text(json.dumps({**SMALL, **defaults}))
    return folder
