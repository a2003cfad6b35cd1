"""Which flags a Triton that already runs refuses."""

from __future__ import annotations


def test_running_triton_refuses_dotted_flags_of_a_server(call, backend):
    refused = call("--vae-config.tile-sample-min-height=128", url="localhost:8001")
    assert refused.code == 2
    assert [error.partition(":")[0] for error in refused.errors] == [
        "vae_config.tile_sample_min_height"
    ]
    assert backend.log == []
