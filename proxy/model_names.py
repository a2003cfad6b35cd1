"""The names that ``model`` in a request may have: those of the models, and the operator's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.families import ModelInfo
from proxy.errors import invalid, no_model, unknown_model
from proxy.jobs.model import Job
from proxy.tritons import Tritons


class ModelNames:
    """The names of the models of ``tritons``, and ``served``: more names of the default model."""

    def __init__(self, tritons: Tritons, served: Sequence[str]):
        self._tritons = tritons
        self._served = served

    def all(self) -> list[str]:
        """Return all names, those of models first. Empty until a Triton has answered."""
        models = self._tritons.models
        return list(dict.fromkeys([*models, *self._served])) if models else []

    def find(self, name: Any) -> ModelInfo:
        """Return the model of this name, or the default model if ``name`` is None.

        Raises ``ApiError``: 404 for an unknown name, 503 until a Triton has answered.
        """
        models = self._tritons.models
        if not models:
            raise no_model()
        if name is not None and not isinstance(name, str):
            raise invalid("model", "model: should be text.", "invalid_type")
        if name in models:
            return models[name]
        if name is not None and name not in self._served:
            raise unknown_model(name, self.all())
        return next(iter(models.values()))

    def of(self, job: Job) -> str:
        """Return the name that a request like that of ``job`` has: an alias if it still serves."""
        alias, models = job.model_alias, self._tritons.models
        serves = alias in self._served and next(iter(models), None) == job.model
        return alias if alias and serves else job.model
