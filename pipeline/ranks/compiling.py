"""Compile the blocks of a transformer with ``torch.compile``."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import torch

from pipeline.diffusion.step_cache import BLOCKS
from pipeline.errors import ServerError
from pipeline.parallel.sequence import Sharding
from pipeline.system.cache_folder import COMPILED, cache_folder
from pipeline.system.compilers import require_compiler
from pipeline.system.private import private_folder


def blocks_of(model: Any) -> Iterator[Any]:
    """Yield the repeated blocks of a transformer of diffusers."""
    for name in BLOCKS:
        yield from getattr(model, name, ())


class Compiler:
    """Compiles blocks when they first run, and measures how long that takes.

    Blocks of one class share their code, whatever their weights. It is compiled for the sizes of
    the first video, and again for any size when another one comes.
    """

    def __init__(self, device: torch.device) -> None:
        """Prepare the folder of compiled kernels.

        Raises ``InputError`` if this machine has no compiler, and ``ServerError`` if the folder
        cannot be created.
        """
        require_compiler(gpu=device.type == "cuda")
        folder = cache_folder() / COMPILED
        try:
            private_folder(folder.parent)
            private_folder(folder)
        except OSError as error:
            raise ServerError(
                f"enable_torch_compile: cannot create {folder}: {error.strerror}; set "
                "TRITON_VIDEO_CACHE to a writable folder"
            ) from None
        # Imported here, because that takes seconds.
        import torch._dynamo.callback
        import torch._inductor.config

        # Processes that compile in parallel would survive the kill of this one.
        torch._inductor.config.compile_threads = 1
        self.seconds = self._began = 0.0
        torch._dynamo.callback.on_compile_start(self._begin)
        torch._dynamo.callback.on_compile_end(self._end)

    def compile(self, model: Any, sharding: Sharding) -> None:
        """Compile the blocks of ``model``. Hooks of a block itself, and what ``sharding`` sends to
        other ranks, run outside the compiled code.
        """
        eager: Any = torch.compiler.disable(sharding.attend)
        sharding.attend = eager
        for block in blocks_of(model):
            block.forward = torch.compile(block.forward)

    def take_seconds(self) -> float:
        """Return the time that compiling has taken since the last call."""
        taken, self.seconds = self.seconds, 0.0
        return taken

    def _begin(self, _arguments: object) -> None:
        self._began = time.monotonic()

    def _end(self, _arguments: object) -> None:
        self.seconds += time.monotonic() - self._began
