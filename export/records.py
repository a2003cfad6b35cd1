"""What an export writes down about each part: ``component.json`` beside the part's graphs, and
later the manifest.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from export.options import Precision

COMPONENT_FILE = "component.json"
TOKENIZER_FILE = "tokenizer.json"
Shapes = dict[str, tuple[int, ...]]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ParityFigure(_Record):
    """The graph on ONNX Runtime beside its torch module, the worst of ``cases`` inputs, and the
    limits that it kept.
    """

    cases: int
    max_abs: float
    cosine: float
    limit_max_abs: float | None = Field(
        description="None where the precision is judged by its cosine."
    )
    limit_cosine: float | None


class CheckResult(_Record):
    """One graph compiled for one compute capability on this machine; ``findings`` are what
    parser and builder said.
    """

    target: str
    ok: bool
    seconds: float
    engine_bytes: int
    activation_bytes: int | None = Field(
        default=None,
        description="Device memory beside the weights at the largest sizes; None where not told.",
    )
    findings: tuple[str, ...] = ()


class GraphRecord(_Record):
    """One ONNX file. The three shapes are the ends and the middle of its TensorRT profile."""

    name: str
    file: str
    nodes: int
    least: Shapes
    usual: Shapes
    most: Shapes
    parity: ParityFigure | None = None
    checks: tuple[CheckResult, ...] = ()
    plan: str | None = Field(
        default=None, description="File of the TensorRT engine, where one was built."
    )


class ComponentRecord(_Record):
    """One part of a repository. ``kept_fp32`` names modules that the precision would break."""

    part: str
    class_name: str
    precision: Precision
    graphs: tuple[GraphRecord, ...]
    kept_fp32: tuple[str, ...] = ()
