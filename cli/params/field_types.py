"""Types of fields that several groups of parameters share."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from pipeline.families.comma_separated import comma_separated
from pipeline.families.paths import CleanPath

OTHER_FLAG = "other_flag"
"""The key of a field's extra data that has another flag of the same meaning."""


class Only:
    """Validator that accepts the given values and refuses every other one with ``reason``.

    The accepted values ask for what the server does anyway.
    """

    def __init__(self, *accepted: object, reason: str = "not supported yet"):
        self._accepted = accepted
        self._reason = reason

    def __call__(self, value: Any) -> Any:
        # The types are compared, too, because `1 == True`.
        if any(value == accepted and type(value) is type(accepted) for accepted in self._accepted):
            return value
        allowed = " or ".join(
            "null" if accepted is None else str(accepted).lower() for accepted in self._accepted
        )
        words = {"reason": self._reason, "allowed": allowed}
        raise PydanticCustomError("only", "{reason}; {allowed} is accepted", words)


def one_or_more(value: object) -> object:
    """Return a list of the one text that an environment variable holds; commas do not split it."""
    return [value] if isinstance(value, str) else value


ModelPath = Annotated[
    CleanPath,
    Field(description="Folder of a Diffusers checkpoint, or Org/Name[@revision] on a hub."),
]
OptionalModelPath = Annotated[
    CleanPath | None,
    Field(
        description="Folder of a Diffusers checkpoint, or Org/Name[@revision] on a hub. "
        "Default: the bundled checkpoint."
    ),
]
TritonUrl = Annotated[
    str,
    StringConstraints(
        pattern=r"^((grpc://)?([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}|unix:/.+)$"
    ),
]
TritonUrls = Annotated[tuple[TritonUrl, ...], BeforeValidator(comma_separated)]
RankCount = Annotated[int, Field(ge=1, le=1024)] | None
Null = Annotated[Any, AfterValidator(Only(None))]

GPU_LIST = r"^(0|([1-9][0-9]{0,2}x)?[1-9][0-9]{0,3}GB(,([1-9][0-9]{0,2}x)?[1-9][0-9]{0,3}GB)*)$"
GIGABYTES = r"^[1-9][0-9]{0,5}GB$"
