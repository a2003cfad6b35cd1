"""Which variables a Triton and its models see."""

import pytest

from cli.runtime.variables import for_containers, for_stages

SECRETS = (
    "TRITON_VIDEO_API_KEYS", "TRITON_VIDEO_DATABASE_URL", "TRITON_VIDEO_WEBHOOK_SECRET",
    "TRITON_VIDEO_TRITON_TOKEN", "HF_TOKEN", "NVIDIA_API_KEY", "NGC_API_KEY",
    "AWS_SECRET_ACCESS_KEY", "OTEL_EXPORTER_OTLP_HEADERS",
    "HTTPS_PROXY", "CUDA_PASSWORD", "OPENAI_API_KEY", "PGPASSWORD",
)  # fmt: skip


@pytest.mark.parametrize("name", SECRETS)
def test_no_secret_is_passed(name):
    assert for_stages({name: "x"}) == for_containers({name: "x"}) == {}


@pytest.mark.parametrize("name", ["CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "NCCL_DEBUG", "TZ"])
def test_compute_variables_are_passed_everywhere(name):
    assert for_stages({name: "x"}) == for_containers({name: "x"}) == {name: "x"}


@pytest.mark.parametrize("name", ["HOME", "HF_HOME", "OTEL_SERVICE_NAME"])
def test_local_folders_are_not_passed_to_containers(name):
    assert for_stages({name: "x"}) == {name: "x"}
    assert for_containers({name: "x"}) == {}
