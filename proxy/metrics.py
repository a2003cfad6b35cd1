"""The Prometheus metrics at ``/metrics``.

No label holds an id, a key or a word of a prompt. Each label has a bounded set of values, since
every value takes memory as long as the process runs.
"""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from proxy.jobs.model import COMPLETED, FAILED, Job

# From a step of a small model to a video that takes an hour.
LONG_BUCKETS_S = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1200, 1800, 3600)
SHORT_BUCKETS_S = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)
MAX_MODELS, OTHER_MODEL = 50, "other"
STAGES = ("encode_text", "denoise", "decode", "encode")


class Metrics:
    """The counters of this process; the gauges are set when the page is read."""

    def __init__(self) -> None:
        self._models: set[str] = set()
        self._registry = registry = CollectorRegistry()
        names = {"namespace": "triton_video", "registry": registry}
        self._jobs = Gauge("jobs", "Unfinished jobs in the database.", ["status"], **names)
        self._up = Gauge(
            "triton_up", "Whether the Triton at this address is healthy.", ["triton"], **names
        )
        self._created = Counter("jobs_created", "Jobs queued by this process.", ["model"], **names)
        self._finished = Counter(
            "jobs_finished",
            "Jobs finished by this process; code is the reason of a failure.",
            ["model", "status", "code"],
            **names,
        )
        self._queue = Histogram(
            "queue_seconds",
            "From the request to the start of the job.",
            ["model"],
            buckets=LONG_BUCKETS_S,
            **names,
        )
        self._stages = {
            stage: Histogram(
                f"{stage}_seconds",
                f"Stage {stage} of a video.",
                ["model"],
                buckets=LONG_BUCKETS_S,
                **names,
            )
            for stage in STAGES
        }
        self._bytes = Counter(
            "video_bytes", "Total size of the videos that were made.", ["model"], **names
        )
        self._sent = Counter("content_bytes", "Bytes of video content sent.", **names)
        self._http = Histogram(
            "http_seconds",
            "From a request to the head of its response.",
            ["method", "route", "status"],
            buckets=SHORT_BUCKETS_S,
            **names,
        )
        self._deliveries = Counter(
            "webhook_deliveries", "Attempts to deliver a webhook.", ["outcome"], **names
        )

    def created(self, model: str) -> None:
        self._created.labels(self._known(model)).inc()

    def completed(self, job: Job, size: int, seconds: Mapping[str, float]) -> None:
        """Count a completed job: a file of ``size`` bytes, and the seconds of each stage."""
        model = self._known(job.model)
        self._finished.labels(model, COMPLETED, "").inc()
        self._bytes.labels(model).inc(size)
        self._queue.labels(model).observe(
            max(0.0, (job.started_at or job.created_at) - job.created_at)
        )
        for stage, histogram in self._stages.items():
            histogram.labels(model).observe(seconds.get(stage, 0.0))

    def failed(self, job: Job, code: str) -> None:
        self._finished.labels(self._known(job.model), FAILED, code).inc()

    def sent(self, size: int) -> None:
        self._sent.inc(size)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        self._http.labels(method, route, str(status)).observe(seconds)

    def delivered(self, outcome: str) -> None:
        self._deliveries.labels(outcome).inc()

    def page(self, jobs: Mapping[str, int], tritons: Mapping[str, bool]) -> bytes:
        """Return the page in Prometheus's text format, with the current gauges."""
        for status, count in jobs.items():
            self._jobs.labels(status).set(count)
        for url, healthy in tritons.items():
            self._up.labels(url).set(healthy)
        return generate_latest(self._registry)

    def _known(self, model: str) -> str:
        """Return the label of a model: its name, or ``OTHER_MODEL`` after ``MAX_MODELS``."""
        if model not in self._models and len(self._models) >= MAX_MODELS:
            return OTHER_MODEL
        self._models.add(model)
        return model
