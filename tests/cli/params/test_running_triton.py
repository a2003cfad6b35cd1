"""Which flags a Triton that already runs refuses."""

from __future__ import annotations

import pytest

from cli.failure import InputErrors
from cli.params.commands import GenerateParams, ServeParams
from cli.params.sources import collect, validate


def test_running_triton_refuses_dotted_flags_of_a_server(call, backend):
    refused = call("--vae-config.tile-sample-min-height=128", url="localhost:8001")
    assert refused.code == 2
    assert [error.partition(":")[0] for error in refused.errors] == [
        "vae_config.tile_sample_min_height"
    ]
    assert backend.log == []


def test_serve_refuses_the_default_of_a_triton_that_it_does_not_start():
    raw = collect({"step_cache": "2x", "triton_url": ("gpu:8001",)}, {}, ServeParams)
    with pytest.raises(InputErrors) as refused:
        validate(raw, ServeParams)
    assert [error.field for error in refused.value.errors] == ["step_cache"]
    raw = collect({"step_cache": "2x", "triton_url": "gpu:8001", "prompt": "x"}, {}, GenerateParams)
    assert validate(raw, GenerateParams).stages.step_cache == "2x"
