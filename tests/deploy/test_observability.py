"""What Prometheus and Grafana ask for is what the servers say."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from pipeline.triton.metric_names import METRICS
from proxy.metrics import Metrics

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "observability"
DASHBOARD = json.loads((FOLDER / "grafana" / "dashboards" / "triton-video.json").read_text())
# Those of Triton 2.51 without a GPU; a test in tests/containers asks a server for them.
TRITONS = {
    "nv_inference_pending_request_count", "nv_inference_request_failure",
    "nv_inference_compute_infer_duration_us",
}  # fmt: skip
OF_GPUS = {"nv_gpu_utilization", "nv_gpu_memory_used_bytes", "nv_gpu_memory_total_bytes"}


def load(name: str) -> dict:
    return yaml.safe_load((ROOT / name).read_text())


def expressions() -> Iterator[str]:
    for panel in DASHBOARD["panels"]:
        yield from (target["expr"] for target in panel.get("targets", []))
    for group in load("deploy/observability/alerts.yml")["groups"]:
        yield from (rule["expr"] for rule in group["rules"])


def asked() -> set[str]:
    return {
        name for text in expressions() for name in re.findall(r"\b(?:triton_video|nv)_\w+", text)
    }


def said() -> set[str]:
    """The names of samples: a histogram's are those of its parts."""
    page = Metrics().page({"queued": 1}, {"h:1": True}).decode()
    kinds = dict(re.findall(r"^# TYPE (\w+) (\w+)", page, re.MULTILINE))
    parts = {
        f"{name}_{part}"
        for name, kind in kinds.items()
        if kind == "histogram"
        for part in ("bucket", "sum", "count")
    }
    return (
        {name for name, kind in kinds.items() if kind != "histogram"}
        | parts
        | {metric.name for metric in METRICS}
    )


def test_every_metric_name_is_one_that_a_server_exports():
    assert asked() - said() - TRITONS - OF_GPUS == set()
    assert asked() >= TRITONS | OF_GPUS


def test_our_metrics_are_shown():
    """But for the births of buckets, and what says the same as something that is shown."""
    shown = asked()
    families = {
        re.sub(r"_(bucket|sum|count)$", "", name)
        for name in said()
        if not name.endswith("_created")
    }
    left_out = {name for name in families if not any(other.startswith(name) for other in shown)}
    batches = {"triton_video_denoise_batches_total", "triton_video_denoise_batched_requests_total"}
    assert left_out - batches == {
        "triton_video_jobs_created_total",
        "triton_video_video_bytes_total",
    }


@pytest.mark.parametrize("expression", list(expressions()))
def test_brackets_close(expression):
    pairs = {")": "(", "]": "[", "}": "{"}
    opened: list[str] = []
    for character in re.sub(r'"[^"]*"', "", expression):
        if character in pairs.values():
            opened.append(character)
        elif character in pairs:
            assert opened
            assert opened.pop() == pairs[character]
    assert not opened


def test_panels_have_unique_ids_and_do_not_overlap():
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [panel["gridPos"] for panel in panels]
    cells = [
        (x, y)
        for p in places
        for x in range(p["x"], p["x"] + p["w"])
        for y in range(p["y"], p["y"] + p["h"])
    ]
    assert len(cells) == len(set(cells))
    assert all(x < 24 for x, _ in cells)


def test_panels_ask_the_source_that_is_provisioned():
    sources = load("deploy/observability/grafana/provisioning/datasources/prometheus.yml")[
        "datasources"
    ]
    asked_for = {
        panel["datasource"]["uid"] for panel in DASHBOARD["panels"] if "datasource" in panel
    }
    assert asked_for == {source["uid"] for source in sources}


def test_prometheus_scrapes_the_services_with_a_key_where_required():
    jobs = {
        job["job_name"]: job
        for job in load("deploy/observability/prometheus.yml")["scrape_configs"]
    }
    services = load("docker-compose.yml")["services"]
    targets = [
        target
        for job in jobs.values()
        for part in job["static_configs"]
        for target in part["targets"]
    ]
    assert {target.partition(":")[0] for target in targets} <= services.keys()
    assert (
        jobs["triton-video"]["authorization"]["credentials_file"] == "/run/secrets/prometheus_key"
    )


def test_mounted_files_exist():
    for service in load("deploy/compose/observability.yml")["services"].values():
        for volume in service["volumes"]:
            source = volume.partition(":")[0]
            assert not source.startswith("./") or (ROOT / source).exists(), source
