"""Loads the parameters of `generate` from flags, variables and files, without a command."""

from __future__ import annotations

import pytest

from cli.params.commands import GenerateParams
from cli.params.sources import collect, validate
from pipeline.errors import InputError


def params_of(flags, environment=None) -> GenerateParams:
    return validate(collect(flags, environment or {}, GenerateParams), GenerateParams)


def errors_of(flags, environment=None):
    with pytest.raises(InputError) as caught:
        params_of(flags, environment)
    return [str(error) for error in getattr(caught.value, "errors", [caught.value])]
