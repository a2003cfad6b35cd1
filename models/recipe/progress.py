"""Resumable training: a step counter, an optimizer and a learning rate that survive an
interruption.
"""

from __future__ import annotations

import math
import shutil
import time
from pathlib import Path

import torch
from torch import nn


def compiled(module: nn.Module) -> nn.Module:
    """Return the module with ``torch.compile`` if there is a C++ compiler, otherwise unchanged
    (slower, same values).
    """
    return torch.compile(module) if shutil.which("g++") else module  # type: ignore[return-value]


class Run:
    """One training run with its state on disk; running the program again resumes from the last
    save.
    """

    def __init__(
        self,
        name: str,
        modules: nn.Module,
        folder: Path,
        steps: int,
        lr: float,
        decay: float = 0.01,
    ):
        self.name, self.modules, self.steps, self.lr = name, modules, steps, lr
        self.path = folder / f"{name}.pt"
        self.log = folder / f"{name}.log"
        decayed = [p for p in modules.parameters() if p.ndim > 1]
        plain = [p for p in modules.parameters() if p.ndim <= 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": decay}, {"params": plain, "weight_decay": 0.0}],
            lr=lr,
            betas=(0.9, 0.98),
            fused=True,
        )
        self.step, self.seconds = 0, 0.0
        self.ema = {k: v.detach().clone() for k, v in modules.state_dict().items()}
        if self.path.exists():
            state = torch.load(self.path, weights_only=True)
            modules.load_state_dict(state["modules"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.ema, self.step, self.seconds = state["ema"], state["step"], state["seconds"]
        self._since, self._mean = time.monotonic(), None

    @property
    def done(self) -> bool:
        return self.step >= self.steps

    def update(self, loss: torch.Tensor) -> None:
        """Make one optimizer step and update the EMA of the weights.

        The learning rate warms up linearly over 200 steps, then follows a cosine to 2 % of ``lr``.
        """
        warm = min(1.0, (self.step + 1) / 200)
        cosine = 0.5 * (1 + math.cos(math.pi * self.step / self.steps))
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * warm * (0.02 + 0.98 * cosine)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.modules.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        keep = min(0.999, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.ema.values()), list(self.modules.state_dict().values()), 1 - keep
            )
        value = float(loss.detach())
        self._mean = value if self._mean is None else 0.98 * self._mean + 0.02 * value
        if self.step % 50 == 0:
            self._report()
        if self.step % 250 == 0 or self.done:
            self.save()

    def _report(self) -> None:
        now = time.monotonic()
        self.seconds, self._since = self.seconds + now - self._since, now
        line = (
            f"{self.name} step {self.step}/{self.steps} loss {self._mean:.4f} "
            f"{self.seconds / 60:.1f} min"
        )
        with self.log.open("a") as file:
            file.write(line + "\n")

    def save(self) -> None:
        state = {
            "modules": self.modules.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": self.ema,
            "step": self.step,
            "seconds": self.seconds,
        }
        part = self.path.with_suffix(".part")
        torch.save(state, part)
        part.replace(self.path)
