"""The groups of parameters, each declared once: flags, config keys, variables and docs follow.

The other groups are `cli.params.stage_group.StageGroup`, `pipeline.families.SamplingParams` and
`Bounds`, and the settings of `proxy.settings`. `cli.params.commands` puts groups together.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Len
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
)

from cli.params.field_types import (
    GIGABYTES,
    GPU_LIST,
    OTHER_FLAG,
    ModelPath,
    Null,
    OptionalModelPath,
    TritonUrl,
    TritonUrls,
    one_or_more,
)
from cli.params.file_names import check_file_name
from export.options import BuildOptions
from pipeline.families.paths import CleanPath
from proxy.settings import HangSettings


class ParamGroup(BaseModel):
    """Base of the groups of this module: immutable, and unknown fields are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ReferenceGroup(ParamGroup):
    """The images of image-to-video."""

    input_reference: CleanPath | None = Field(
        None,
        description="Reference image (PNG, JPEG or WebP) that the video begins from. "
        "Without a size the video has its aspect ratio.",
    )
    last_frame: CleanPath | None = Field(
        None,
        description="Image (PNG, JPEG or WebP) that the video ends with, for models that take one.",
    )


class InputVideoGroup(ParamGroup):
    """The video that another one is made of."""

    input_video: CleanPath | None = Field(
        None,
        description="Video (MP4 or WebM) to edit: the new one has its size and length. Requires "
        "--strength.",
    )
    extend: CleanPath | None = Field(
        None,
        description="Video (MP4 or WebM) to continue: the new one begins with it, then "
        "--num-frames less one are added.",
    )


class StartGroup(ParamGroup):
    """The model, and what runs the Triton that serves it."""

    model_path: OptionalModelPath = None
    runtime: Literal["auto", "embedded", "docker", "podman"] = Field(
        "auto",
        description="Where to start Triton: embedded on this machine, or in an ephemeral "
        "container. auto: embedded if installed, otherwise docker or podman.",
    )
    image: str | None = Field(
        None,
        min_length=1,
        description="Image of the container. Default: triton-video:VERSION-gpu on a machine with a "
        "GPU, otherwise triton-video:VERSION-cpu.",
    )


class TokenGroup(ParamGroup):
    """The token of a Triton that listens on TCP."""

    triton_token_file: CleanPath | None = Field(
        None,
        description="File with the token that a Triton on TCP requires to cancel and list jobs. "
        "Default: TRITON_VIDEO_TRITON_TOKEN, otherwise a token kept in the user's cache folder.",
    )


class ServerGroup(HangSettings, TokenGroup):
    """The Triton of `generate`."""

    triton_url: TritonUrl | None = Field(
        None,
        description="HOST:PORT of a running Triton's gRPC endpoint, to call it instead of starting "
        "one.",
    )


class DryRunGroup(ParamGroup):
    """What ``--dry-run`` plans, and for which machine."""

    dry_run: bool = Field(
        False,
        description="Print the settings and the memory plan, and start nothing. "
        "With --runtime docker or podman also print the container commands.",
    )
    assume_gpus: Annotated[str, StringConstraints(pattern=GPU_LIST)] | None = Field(
        None,
        description="GPUs to plan for instead of this machine's, such as 4x80GB or 24GB,12GB; "
        "0 for none. Requires --dry-run.",
    )
    assume_memory: Annotated[str, StringConstraints(pattern=GIGABYTES)] | None = Field(
        None,
        description="Host memory to plan for, such as 512GB. Requires --dry-run. Default: this "
        "machine's; unlimited with --assume-gpus.",
    )


class ServersGroup(TokenGroup):
    """The Tritons of `serve`."""

    triton_url: TritonUrls = Field(
        (),
        description="HOST:PORT of a running Triton's gRPC endpoint, to use it instead of starting "
        "one. May be repeated.",
    )
    background_export: bool = Field(
        True,
        description="Start in torch where graphs are missing, export them at low priority, and "
        "then restart Triton with them between two jobs. Otherwise export them first.",
    )


class WorkerServersGroup(TokenGroup):
    """The Tritons of `worker`."""

    triton_url: Annotated[TritonUrls, Len(min_length=1)] = Field(
        description="HOST:PORT of a running Triton's gRPC endpoint. May be repeated."
    )


class TritonGroup(HangSettings, TokenGroup):
    """What `triton` serves, and where it listens."""

    model_path: OptionalModelPath = None
    model_repository: CleanPath | None = Field(
        None,
        description="Folder of a model repository to serve as it is. "
        "Default: a repository prepared for --model-path.",
    )
    host: str = Field(
        "127.0.0.1",
        description="Address to listen on; 0.0.0.0 for all. "
        "unix:FOLDER: sockets in a private folder, no ports.",
    )
    http_port: int = Field(8000, ge=1, le=65535, description="HTTP port.")
    grpc_port: int = Field(
        8001, ge=1, le=65535, description="gRPC port, which --triton-url of other commands names."
    )
    metrics_port: int = Field(8002, ge=1, le=65535, description="Port of Triton's metrics.")
    until_stdin_ends: bool = Field(False, description="Also stop when standard input ends.")


class SourceGroup(ParamGroup):
    """The checkpoint of `export`."""

    model_path: ModelPath
    allow_pickle: bool = Field(
        False, description="Convert weights that exist as pickles only to safetensors."
    )
    revision: str | None = Field(
        None, min_length=1, description="Branch, tag or commit of the checkpoint on the hub."
    )


class CalibrationGroup(ParamGroup):
    """The videos that `calibrate` denoises, and the file that it writes."""

    model_path: OptionalModelPath = None
    prompts: Annotated[tuple[str, ...], BeforeValidator(one_or_more)] = Field(
        (), description="Text of a video to measure; may be repeated. Default: three texts."
    )
    height: int | None = Field(None, ge=1, description="Height in pixels. Default: the model's.")
    width: int | None = Field(None, ge=1, description="Width in pixels. Default: the model's.")
    num_frames: int | None = Field(
        None, ge=1, description="Number of frames. Default: the model's."
    )
    num_inference_steps: int | None = Field(
        None, ge=1, description="Steps of the table; others are interpolated. Default: the model's."
    )
    guidance_scale: float | None = Field(
        None, ge=0, description="Classifier-free guidance scale. Default: the model's."
    )
    flow_shift: float | None = Field(
        None, gt=0, description="Shift of the noise schedule. Default: the model's."
    )
    seed: int = Field(0, ge=0, description="Seed of the first video; the next ones count up.")
    output: CleanPath | None = Field(
        None, description="File to write. Default: step_cache.json in the checkpoint's folder."
    )
    overwrite: bool = Field(False, description="Replace an existing file.")


class RepositoryGroup(BuildOptions):
    """The repository that `export` writes."""

    output: CleanPath = Field(
        description="Folder to write the model repository to; written completely or not at all. "
        "Also --output-path.",
        json_schema_extra={OTHER_FLAG: "--output-path"},
    )
    overwrite: bool = Field(False, description="Replace an existing exported repository.")
    dry_run: bool = Field(
        False, description="Print the plan and the disk space it needs, and write nothing."
    )


class OutputGroup(ParamGroup):
    """The files that `generate` writes."""

    output_path: CleanPath = Field(
        Path("outputs"), description="Folder to save the video in; created if missing."
    )
    output_file_name: Annotated[str, AfterValidator(check_file_name)] | None = Field(
        None,
        description="File name of the video, ending in .mp4. Default: made from the prompt's "
        "words.",
    )
    save_output: bool = Field(True, description="Save the video. Off: write no files.")
    return_frames: bool = Field(
        False,
        description="Also save the raw frames beside the video, as a uint8 .npy file "
        "(frames, height, width, 3).",
    )
    overwrite: bool = Field(
        False, description="Replace an existing file of the name --output-file-name."
    )


class VerbosityGroup(ParamGroup):
    """How much goes to standard error."""

    quiet: bool = Field(False, description="Print errors only: no progress, no notes.")
    verbose: bool = Field(
        False, description="Print the traceback and the server's log when something fails."
    )


class LogGroup(VerbosityGroup):
    """The log of a lasting command."""

    log_format: Literal["text", "json"] = Field(
        "text", description="Format of the log lines on standard error."
    )


class ReportGroup(VerbosityGroup):
    """How a command reports its result and its errors."""

    # The field is called `json` everywhere else; here that would shadow a method of pydantic's.
    as_json: bool = Field(
        False, alias="json", description="Print the result, or the error, as one JSON object."
    )


class AnswerGroup(ParamGroup):
    """The form of a command's answer."""

    as_json: bool = Field(
        False, alias="json", description="Print one JSON object instead of a table."
    )


class CompatibilityGroup(ParamGroup):
    """Parameters that existing config files and scripts may hold, and this version does not use."""

    mask_strategy_file_path: Null = Field(None, description="Sparse attention masks.")


class AccessGroup(ParamGroup):
    """Who may use the API."""

    api_keys_file: CleanPath | None = Field(
        None,
        description="File with one API key per line. Default: TRITON_VIDEO_API_KEYS, separated by "
        "commas.",
    )
    auth: bool = Field(
        True,
        description="Require an API key; without any, one is generated and kept in --data-path.",
    )
