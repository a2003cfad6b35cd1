"""How far a graph may differ from its torch module, and how the difference is measured."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.families.parts import Part
from pipeline.settings import GraphPrecision

MAX_ABS = 1e-4
# Float32 resolves a value of 1000 to 6e-5. Where values are over 10 (hidden states of language
# models have such), this share of the largest one is allowed instead.
MAX_OF_PEAK = 1e-5
COSINE_VAE = 0.999
COSINE_ENCODER = 0.98


@dataclass(frozen=True)
class Limits:
    """The limits of one precision: ``max_abs`` judges fp32, ``cosine`` the half precisions; the
    other one is None.
    """

    max_abs: float | None
    cosine: float | None

    @classmethod
    def of(cls, precision: GraphPrecision, part: Part) -> Limits:
        if precision == "fp32":
            return cls(MAX_ABS, None)
        return cls(None, COSINE_VAE if part.kind == "vae" else COSINE_ENCODER)


@dataclass(frozen=True)
class Difference:
    """The difference of a tensor from its expected values; ``peak`` is the largest expected
    absolute value.
    """

    max_abs: float
    cosine: float
    peak: float
    finite: bool

    @property
    def limit_max_abs(self) -> float:
        return max(MAX_ABS, MAX_OF_PEAK * self.peak)

    def exceeds(self, limits: Limits) -> bool:
        if not self.finite:
            return True
        if limits.cosine is not None:
            return self.cosine < limits.cosine
        return self.max_abs > self.limit_max_abs

    def text(self, limits: Limits) -> str:
        """Return the measure that ``exceeds`` judges, for a sentence."""
        if not self.finite:
            return "NaN or Inf"
        if limits.cosine is not None:
            return f"cosine {self.cosine:.4f}, must be at least {limits.cosine}"
        return f"off by {self.max_abs:.2g}, must be at most {self.limit_max_abs:.2g}"


def compare(expected: np.ndarray, actual: np.ndarray) -> Difference:
    """Return the difference of two float tensors of the same shape."""
    if not np.isfinite(actual).all():
        return Difference(max_abs=np.inf, cosine=0.0, peak=0.0, finite=False)
    a, b = expected.astype(np.float64).ravel(), actual.astype(np.float64).ravel()
    lengths = np.linalg.norm(a) * np.linalg.norm(b)
    # Of zeros only: equal where the other one has nothing but zeros too.
    cosine = float(a @ b / lengths) if lengths else float(np.array_equal(a, b))
    return Difference(float(np.abs(a - b).max()), cosine, float(np.abs(a).max()), finite=True)
