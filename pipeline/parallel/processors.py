"""Attention processors of diffusers for a sequence spread over ranks, or on one rank. They compute
the same values as the originals.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.embeddings import apply_rotary_emb

from pipeline.parallel.sequence import Sharding
from pipeline.parallel.usp import Shared

Angles = tuple[torch.Tensor, torch.Tensor]


class SelfAttention:
    """Replaces ``WanAttnProcessor`` in self-attention."""

    def __init__(self, sharding: Sharding) -> None:
        self._sharding = sharding

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: None = None,
        attention_mask: None = None,
        rotary_emb: Angles | None = None,
    ) -> torch.Tensor:
        """Return the attention [B, S, C] of this rank's tokens [B, S, C], given their cosines and
        sines [1, S, 1, D].
        """
        assert encoder_hidden_states is None
        assert attention_mask is None
        assert rotary_emb is not None
        angles = (rotary_emb[0][0, :, 0], rotary_emb[1][0, :, 0])
        query, key, value = (
            projection.unflatten(2, (attn.heads, -1))
            for projection in (
                attn.norm_q(attn.to_q(hidden_states)),
                attn.norm_k(attn.to_k(hidden_states)),
                attn.to_v(hidden_states),
            )
        )
        out, _ = self._sharding.attend(_rotated(query, angles), _rotated(key, angles), value)
        for module in attn.to_out:
            out = module(out.flatten(2) if out.ndim == 4 else out)
        return out


class JointAttention:
    """Replaces ``HunyuanVideoAttnProcessor2_0``: video tokens are sharded, and every rank holds all
    text tokens.
    """

    def __init__(self, sharding: Sharding) -> None:
        self._sharding = sharding

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        attention_mask: torch.Tensor,
        image_rotary_emb: Angles,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the attention of video [B, S, C] and of text [B, T, C], given a bool mask [B, 1,
        1, S + T] and angles [S, D].
        """
        video = _projected(attn, hidden_states, ("to_q", "to_k", "to_v"), ("norm_q", "norm_k"))
        # Dual-stream blocks have separate projections for the text; single-stream blocks do not.
        added = attn.add_q_proj is not None
        names = ("add_q_proj", "add_k_proj", "add_v_proj") if added else ("to_q", "to_k", "to_v")
        norms = ("norm_added_q", "norm_added_k") if added else ("norm_q", "norm_k")
        text = self._shared(_projected(attn, encoder_hidden_states, names, norms), attention_mask)
        query, key = (_rotated(part, image_rotary_emb) for part in video[:2])
        out, text_out = self._sharding.attend(query, key, video[2], text)
        assert text_out is not None
        out, text_out = out.flatten(2), text_out.flatten(2)
        if getattr(attn, "to_out", None) is not None:
            out = attn.to_out[1](attn.to_out[0](out))
        if getattr(attn, "to_add_out", None) is not None:
            text_out = attn.to_add_out(text_out)
        return out, text_out

    def _shared(self, text: list[torch.Tensor], attention_mask: torch.Tensor) -> Shared:
        length = text[0].shape[1]
        mask = attention_mask[:, 0, 0, -length:] if self._sharding.masked else None
        return Shared(*text, mask=mask)


class PaddingCutter:
    """A pre-hook of ``HunyuanVideoTransformer3DModel`` that cuts the padding which all texts of a
    batch have. Texts of one length then need no mask: masks rule out the fastest kernels.
    """

    def __init__(self, sharding: Sharding) -> None:
        self._sharding = sharding
        self._mask: torch.Tensor | None = None
        self._longest = 0

    def __call__(
        self, _module: Any, args: Any, kwargs: dict[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        mask = kwargs["encoder_attention_mask"]
        if mask is not self._mask:
            # Reading the lengths waits for the GPU. All steps of a video have the same mask.
            lengths = mask.sum(dim=1, dtype=torch.int).unique().tolist()
            self._mask, self._longest = mask, lengths[-1]
            self._sharding.masked = len(lengths) > 1
        texts = ("encoder_hidden_states", "encoder_attention_mask")
        return args, kwargs | {name: kwargs[name][:, : self._longest] for name in texts}


def _rotated(tokens: torch.Tensor, angles: Any) -> torch.Tensor:
    """Apply rotary position embedding with cosines and sines [S, D] to tokens [B, S, H, D]."""
    # On a CPU the product of complex numbers takes a fifth of the time. It cannot be compiled.
    if tokens.device.type == "cpu" and not torch.compiler.is_compiling():
        cos, sin = (part[:, None, ::2].float().contiguous() for part in angles)
        pairs = torch.view_as_complex(tokens.float().unflatten(-1, (-1, 2)).contiguous())
        return torch.view_as_real(pairs * torch.complex(cos, sin)).flatten(-2).to(tokens.dtype)
    rotated = apply_rotary_emb(tokens, angles, sequence_dim=1)
    assert isinstance(rotated, torch.Tensor)
    return rotated


def _projected(
    attn: Any, tokens: torch.Tensor, projections: tuple[str, ...], norms: tuple[str, str]
) -> list[torch.Tensor]:
    """Return query, key and value [B, S, H, D]; the first two are normalised if the model does
    that.
    """
    parts = [getattr(attn, name)(tokens).unflatten(2, (attn.heads, -1)) for name in projections]
    for index, name in enumerate(norms):
        if (norm := getattr(attn, name)) is not None:
            parts[index] = norm(parts[index])
    return parts
