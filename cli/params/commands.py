"""The parameters of each command: one model, with one field per group.

The title of a field is the group's heading in ``--help`` and in the reference; its description, if
there is one, follows the heading in the reference.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from cli.params.groups import (
    AccessGroup,
    AnswerGroup,
    CalibrationGroup,
    CompatibilityGroup,
    DryRunGroup,
    InputVideoGroup,
    LogGroup,
    OutputGroup,
    ReferenceGroup,
    ReportGroup,
    RepositoryGroup,
    ServerGroup,
    ServersGroup,
    SourceGroup,
    StartGroup,
    TritonGroup,
    VerbosityGroup,
    WorkerServersGroup,
)
from cli.params.stage_group import StageGroup
from pipeline.families import Bounds, SamplingParams
from proxy.settings import HttpSettings, JobSettings, RequestSettings, WebhookSettings


class CommandParams(BaseModel):
    """Base of the parameters of a command: every field is a group."""

    # Built at first use: a command needs only its own.
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class GenerateParams(CommandParams):
    """The parameters of `generate`."""

    sampling: SamplingParams = Field(title="Sampling")
    reference: ReferenceGroup = Field(title="Images")
    video: InputVideoGroup = Field(title="Input video")
    start: StartGroup = Field(title="Model and runtime")
    stages: StageGroup = Field(title="Compute")
    server: ServerGroup = Field(title="Triton server")
    dry: DryRunGroup = Field(title="Dry run")
    output: OutputGroup = Field(title="Output")
    report: ReportGroup = Field(title="Reporting")
    compatibility: CompatibilityGroup = Field(
        title="Accepted for compatibility",
        description="Parameters of other servers: each accepts only the value that has no effect.",
    )


class ServeParams(CommandParams):
    """The parameters of `serve`."""

    http: HttpSettings = Field(title="HTTP server")
    requests: RequestSettings = Field(title="Requests")
    access: AccessGroup = Field(title="Access")
    jobs: JobSettings = Field(title="Jobs")
    webhook: WebhookSettings = Field(title="Webhook")
    bounds: Bounds = Field(title="Limits")
    start: StartGroup = Field(title="Model and runtime")
    stages: StageGroup = Field(title="Compute")
    servers: ServersGroup = Field(title="Triton servers")
    dry: DryRunGroup = Field(title="Dry run")
    log: LogGroup = Field(title="Logging")


class WorkerParams(CommandParams):
    """The parameters of `worker`."""

    jobs: JobSettings = Field(title="Jobs")
    webhook: WebhookSettings = Field(title="Webhook")
    servers: WorkerServersGroup = Field(title="Triton servers")
    log: LogGroup = Field(title="Logging")


class TritonParams(CommandParams):
    """The parameters of `triton`."""

    triton: TritonGroup = Field(title="Triton server")
    bounds: Bounds = Field(title="Limits")
    stages: StageGroup = Field(title="Compute")
    log: VerbosityGroup = Field(title="Logging")


class ExportParams(CommandParams):
    """The parameters of `export`."""

    source: SourceGroup = Field(title="Checkpoint")
    stages: StageGroup = Field(title="Compute")
    repository: RepositoryGroup = Field(title="Repository")
    report: ReportGroup = Field(title="Reporting")


class CalibrateParams(CommandParams):
    """The parameters of `calibrate`."""

    calibration: CalibrationGroup = Field(title="Measurement")
    reference: ReferenceGroup = Field(title="Images")
    stages: StageGroup = Field(title="Compute")
    log: VerbosityGroup = Field(title="Logging")


class RepositoryParams(CommandParams):
    """The parameters of `export inspect` and `export verify`."""

    report: ReportGroup = Field(title="Reporting")


class AnswerParams(CommandParams):
    """The parameters of `doctor` and `models`."""

    answer: AnswerGroup = Field(title="Output format")


COMMANDS: dict[str, type[CommandParams]] = {
    "generate": GenerateParams,
    "serve": ServeParams,
    "worker": WorkerParams,
    "export": ExportParams,
    "triton": TritonParams,
    "calibrate": CalibrateParams,
}
"""The commands that have a configuration, which `config show` shows."""
