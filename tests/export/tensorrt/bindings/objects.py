"""Objects with exactly the attributes of a class of NVIDIA's bindings, and no TensorRT behind."""

from __future__ import annotations

import re
from typing import Any


class Object:
    """Stands for an instance of ``kind``. What the class does not have, it does not have.

    Methods take the arguments that their docstrings, which pybind11 writes, have; they return their
    value in ``answers``, otherwise True. ``calls`` are the names of the methods that were called.
    """

    def __init__(self, kind: type, **answers: Any) -> None:
        for name in answers:
            getattr(kind, name)
        vars(self).update(_kind=kind, _answers=answers, calls=[])

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._kind, name)
        if isinstance(attribute, property):
            return self._answers.get(name, 0)
        signatures = signatures_of(attribute)
        assert signatures, f"{self._kind.__name__}.{name} has no signature"

        def call(*arguments: Any, **named: Any) -> Any:
            if not any(fits(signature, len(arguments) + 1, named) for signature in signatures):
                raise TypeError(f"{self._kind.__name__}.{name} takes {signatures}")
            self.calls.append(name)
            return self._answers.get(name, True)

        return call

    def __setattr__(self, name: str, value: Any) -> None:
        attribute = getattr(self._kind, name)
        if not isinstance(attribute, property) or attribute.fset is None:
            raise AttributeError(f"{self._kind.__name__}.{name} cannot be set")
        self._answers[name] = value


def signatures_of(method: Any) -> list[dict[str, bool]]:
    """The signatures of a method: parameter -> whether it may be left out."""
    lines = re.findall(r"^\s*(?:\d+\. )?\w+\((self: .*)\) ->", method.__doc__, re.MULTILINE)
    found = []
    for line in lines:
        parameters = re.split(r"(?:^|, )(\w+): ", line)[1:]
        found.append(
            {
                name: " = " in kind
                for name, kind in zip(parameters[::2], parameters[1::2], strict=True)
            }
        )
    return found


def fits(signature: dict[str, bool], positional: int, named: dict[str, Any]) -> bool:
    """Whether a call with ``positional`` arguments, self included, and ``named`` ones is valid."""
    given = {*list(signature)[:positional], *named}
    required = {name for name, optional in signature.items() if not optional}
    return (
        positional <= len(signature)
        and named.keys() <= set(list(signature)[positional:])
        and required <= given
    )
