"""What an export records about each part: ``component.json`` beside the part's graphs, and later
the manifest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from pipeline.settings import GraphPrecision

if TYPE_CHECKING:
    from export.graph import Graph

COMPONENT_FILE = "component.json"
TOKENIZER_FILE = "tokenizer.json"
Shapes = dict[str, tuple[int, ...]]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ParityResult(_Record):
    """The difference of a graph on ONNX Runtime from its torch module, the worst of ``cases``
    inputs, and the limits that it kept.
    """

    cases: int
    max_abs: float
    cosine: float
    limit_max_abs: float | None = Field(
        description="None if the precision is judged by its cosine."
    )
    limit_cosine: float | None


class CheckResult(_Record):
    """One graph compiled for one compute capability on this machine; ``findings`` come from parser
    and builder.
    """

    target: str
    ok: bool
    seconds: float
    engine_bytes: int
    activation_bytes: int | None = Field(
        default=None,
        description="Device memory beside the weights at the largest sizes; None if not reported.",
    )
    findings: tuple[str, ...] = ()


class Profile(_Record):
    """The shapes of a graph's inputs in one TensorRT profile."""

    min: Shapes
    opt: Shapes
    max: Shapes


class GraphRecord(_Record):
    """One ONNX file. ``min``, ``opt`` and ``max`` are the shapes of its first TensorRT profile."""

    name: str
    file: str
    nodes: int
    # The second names are those of a manifest of format 1.
    min: Shapes = Field(validation_alias=AliasChoices("min", "least"))
    opt: Shapes = Field(validation_alias=AliasChoices("opt", "usual"))
    max: Shapes = Field(validation_alias=AliasChoices("max", "most"))
    turned: Profile | None = Field(
        default=None, description="Another profile: the first one with height and width exchanged."
    )
    parity: ParityResult | None = None
    checks: tuple[CheckResult, ...] = ()
    plan: str | None = Field(
        default=None, description="File of the TensorRT engine, if one was built."
    )

    @classmethod
    def of(cls, graph: Graph, file: str, nodes: int) -> Self:
        """Return the record of a graph that was captured into ``file``."""
        return cls(
            name=graph.name,
            file=file,
            nodes=nodes,
            min=graph.shapes("min"),
            opt=graph.shapes("opt"),
            max=graph.shapes("max"),
            turned=Profile(
                min=graph.shapes("min", turned=True),
                opt=graph.shapes("opt", turned=True),
                max=graph.shapes("max", turned=True),
            )
            if graph.turns
            else None,
        )

    @property
    def profiles(self) -> tuple[Profile, ...]:
        """The TensorRT profiles, in order."""
        first = Profile(min=self.min, opt=self.opt, max=self.max)
        return (first, self.turned) if self.turned else (first,)


class ComponentRecord(_Record):
    """One part of a repository. ``kept_fp32`` names modules that a half precision would break."""

    part: str
    class_name: str
    precision: GraphPrecision
    graphs: tuple[GraphRecord, ...]
    kept_fp32: tuple[str, ...] = ()
