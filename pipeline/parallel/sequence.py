"""A sequence spread over the ranks of a mesh."""

from __future__ import annotations

import torch
from torch.nn import functional

from pipeline.parallel.backends import Kernel
from pipeline.parallel.mesh import Mesh
from pipeline.parallel.usp import Shared, usp_attention


class Sharding:
    """State that hooks and attention share during a forward pass: the mesh, the kernel of
    attention, the true length of the sequence, and whether texts have padding that must be masked.
    """

    def __init__(self, mesh: Mesh, kernel: Kernel = "native") -> None:
        self.mesh = mesh
        self.kernel: Kernel = kernel
        self.length = 0
        self.masked = False
        self.attend = self._attend

    def enter(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return this rank's shard [B, ceil(N / ranks), C] of the whole sequence [B, N, C], padded
        with zeros at the end.
        """
        self.length = tokens.shape[1]
        return self.local(tokens, 1)

    def local(self, tensor: torch.Tensor, dim: int) -> torch.Tensor:
        """Return this rank's part of a tensor that has a row per token in ``dim``."""
        axis = self.mesh.sequence
        if axis.size == 1:
            return tensor
        missing = -tensor.shape[dim] % axis.size
        padding = [0, 0] * (tensor.ndim - 1 - dim) + [0, missing]
        return functional.pad(tensor, padding).chunk(axis.size, dim)[axis.index]

    def _attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        text: Shared | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Compute the attention of this rank's tokens and of the text, as `usp_attention` does."""
        length = key.shape[1] if self.mesh.sequence.size == 1 else self.length
        return usp_attention(query, key, value, self.mesh, length, text, self.kernel)

    def leave(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the whole sequence [B, N, C], gathered from the shards [B, S, C] of all ranks."""
        return self.mesh.sequence.all_gather(tokens).transpose(0, 1).flatten(1, 2)[:, : self.length]
