"""Count the parameters of a component from the headers of its files."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pipeline.checkpoint.folder import Checkpoint
from pipeline.checkpoint.safetensors_header import read_header
from pipeline.checkpoint.weight_files import component_weights

_BLOCK = re.compile(r"^((?:\w+_)?blocks\.\d+)\.")


@dataclass(frozen=True)
class Weights:
    """Numbers of parameters of one component: all, those in transformer blocks, and those of the
    largest block.
    """

    count: int
    in_blocks: int = 0
    largest_block: int = 0

    @property
    def by_block(self) -> int:
        """The number of parameters on the GPU with layerwise offload: those outside the blocks,
        plus the current block and the next one.
        """
        return min(self.count, self.count - self.in_blocks + 2 * self.largest_block)


def weights_of(
    checkpoint: Checkpoint, component: str, prefixes: tuple[str, ...] = ("",)
) -> Weights:
    """Count the parameters of ``component`` whose names begin with one of ``prefixes``.

    Raises ``CheckpointError`` for files that are missing or cut short.
    """
    return _counted(checkpoint.path, component, prefixes)


@lru_cache(maxsize=32)  # a plan is made for each combination of flags that may help
def _counted(path: Path, component: str, prefixes: tuple[str, ...]) -> Weights:
    count, blocks = 0, dict[str, int]()
    for file in component_weights(path, component):
        for name, entry in read_header(file).items():
            if not name.startswith(prefixes):
                continue
            size = math.prod(entry.shape)
            count += size
            if found := _BLOCK.match(name):
                blocks[found[1]] = blocks.get(found[1], 0) + size
    return Weights(count, sum(blocks.values()), max(blocks.values(), default=0))
