"""The tokenizer and the text encoder of ``shapes``: a small unigram vocabulary and a two-layer
UMT5.
"""

from __future__ import annotations

import math
import random
import re
import string
from collections import Counter
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import Unigram
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from models.recipe.prompts import describe
from models.recipe.scene import sample_scene

TEXT_DIM = 128
MAX_LENGTH = 32
SPELLING_SCORE = -14.0  # below any word's log-frequency: words are spelt only if no piece fits
PAD, EOS, UNKNOWN = "<pad>", "</s>", "<unk>"


def build_tokenizer(seed: int) -> PreTrainedTokenizerFast:
    """Build a lower-casing unigram tokenizer: every word of the recipe's sentences is a piece, any
    other word is spelt.

    Punctuation is removed: it has no meaning in the recipe's sentences.
    """
    rng = random.Random(f"tokenizer-{seed}")
    words = Counter(
        w for _ in range(20_000) for w in re.findall(r"[a-z]+", describe(sample_scene(rng), rng))
    )
    total = sum(words.values())
    pieces = [(PAD, 0.0), (EOS, 0.0), (UNKNOWN, 0.0)]
    pieces += [(f"▁{word}", math.log(count / total)) for word, count in sorted(words.items())]
    pieces += [(letter, SPELLING_SCORE) for letter in "▁" + string.ascii_lowercase + string.digits]
    tokenizer = Tokenizer(Unigram(pieces, unk_id=2))
    spaces = normalizers.Replace(Regex(r"[^\p{L}\p{N}]+"), " ")
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Lowercase(), spaces, normalizers.Strip()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {EOS}", special_tokens=[(EOS, 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=UNKNOWN,
        model_max_length=MAX_LENGTH,
    )


def load_tokenizer(folder: Path, seed: int) -> PreTrainedTokenizerFast:
    """Return the tokenizer kept in ``folder``; build it first if it is missing. A resumed run must
    not retrain it.
    """
    if not (folder / "tokenizer.json").exists():
        build_tokenizer(seed).save_pretrained(folder)
    return PreTrainedTokenizerFast.from_pretrained(folder)


def build_encoder(vocabulary: int) -> UMT5EncoderModel:
    return UMT5EncoderModel(
        UMT5Config(
            vocab_size=vocabulary,
            d_model=TEXT_DIM,
            d_kv=32,
            d_ff=320,
            num_layers=2,
            num_decoder_layers=2,
            num_heads=4,
            relative_attention_num_buckets=16,
            relative_attention_max_distance=32,
            dropout_rate=0.0,
            feed_forward_proj="gated-gelu",
            pad_token_id=0,
            eos_token_id=1,
        )
    )


def embed(
    encoder: UMT5EncoderModel, tokenizer: PreTrainedTokenizerFast, texts: list[str]
) -> torch.Tensor:
    """Convert texts to embeddings (B, MAX_LENGTH, TEXT_DIM), zero after each text's end as in Wan's
    pipeline.
    """
    tokens = tokenizer(
        texts, padding="longest", truncation=True, max_length=MAX_LENGTH, return_tensors="pt"
    )
    hidden = encoder(tokens.input_ids, tokens.attention_mask).last_hidden_state
    hidden = hidden * tokens.attention_mask[..., None]
    return torch.nn.functional.pad(hidden, (0, 0, 0, MAX_LENGTH - hidden.shape[1]))
