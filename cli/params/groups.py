"""Every parameter of the commands, declared once: flags, config keys, variables and docs come from
here.

Each model is one group. The sampling group is `pipeline.families.SamplingParams` itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Len
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
)
from pydantic_core import PydanticCustomError

from cli.params.file_names import check_file_name
from export.options import Flavour, VaeEngine
from export.options import Precision as GraphPrecision
from pipeline.families import Bounds, SamplingParams
from pipeline.families.paths import CleanPath
from pipeline.settings import VaeConfig
from proxy.settings import HangSettings, HttpSettings, JobSettings, Texts, WebhookSettings, texts


class Only:
    """Accepts the given values, which ask for what happens anyway, and refuses all others with
    ``reason``.
    """

    def __init__(self, *accepted: object, reason: str = "not supported yet"):
        self._accepted = accepted
        self._reason = reason

    def __call__(self, value: Any) -> Any:
        # `1 == True`, but the two are different answers to a question.
        if any(value == accepted and type(value) is type(accepted) for accepted in self._accepted):
            return value
        allowed = " or ".join(
            "null" if accepted is None else str(accepted).lower() for accepted in self._accepted
        )
        words = {"reason": self._reason, "allowed": allowed}
        raise PydanticCustomError("only", "{reason}; {allowed} is accepted", words)


TritonUrl = Annotated[
    str,
    StringConstraints(
        pattern=r"^((grpc://)?([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}|unix:/.+)$"
    ),
]
TritonUrls = Annotated[tuple[TritonUrl, ...], BeforeValidator(texts)]
RankCount = Annotated[int, Field(ge=1, le=1024)] | None
Off = Annotated[bool, AfterValidator(Only(False))]
Null = Annotated[Any, AfterValidator(Only(None))]


class StageParams(BaseModel):
    """How the stages compute, whoever starts their Triton"""

    model_config = ConfigDict(frozen=True, extra="forbid")

    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto",
        description="Data type the transformer computes in; auto picks what suits the device.",
    )
    tp_size: int = Field(
        1,
        ge=1,
        le=64,
        description="Ranks that share the first text encoder, with some of its heads each.",
    )
    text_encoder_precisions: Annotated[tuple[GraphPrecision, ...], BeforeValidator(texts)] = Field(
        (), description="Data type of each text encoder, in order; fp32 where none is given."
    )
    threads: int = Field(
        0, ge=0, le=1024, description="CPU threads per stage; 0 is as many as there are cores."
    )
    num_gpus: RankCount = Field(
        None, description="Ranks that run the transformer: GPUs, or processes on a CPU."
    )
    sp_size: RankCount = Field(
        None, description="Ranks that share a sequence: ulysses_degree x ring_degree."
    )
    ulysses_degree: RankCount = Field(
        None, description="Ranks that trade tokens for attention heads (Ulysses)."
    )
    ring_degree: RankCount = Field(
        None, description="Ranks that pass keys and values round (Ring)."
    )
    cfg_parallel: bool | None = Field(
        None,
        description="Guidance's two branches on ranks of their own. None: where num_gpus is twice sp_size.",
    )
    text_encoder_cpu_offload: bool = Field(
        False, description="Keep text encoders in CPU memory, where ONNX Runtime keeps them anyway."
    )
    dit_layerwise_offload: bool = Field(
        False,
        description="Keep the transformer in CPU memory and bring its blocks to the GPU one after the other.",
    )
    pin_cpu_memory: bool = Field(
        False,
        description="Pin what waits in CPU memory for the GPU: quicker to copy, and never swapped out.",
    )
    batching_max_size: int = Field(
        1,
        ge=1,
        le=64,
        description="Requests of one size that wait together and are denoised as one batch.",
    )
    vae_engine: VaeEngine = Field(
        "chunked",
        description="How the VAE decodes: frame by frame with caches, whole clips at once, or in torch.",
    )
    vae_precision: GraphPrecision = Field("fp32", description="Data type the VAE computes in.")
    vae_tiling: bool = Field(
        False, description="Decode frames larger than a tile in tiles: less memory, more time."
    )
    vae_sp: bool = Field(
        False, description="Decode in tiles, on the devices of all ranks side by side."
    )
    vae_config: VaeConfig | None = Field(
        None,
        description="Sizes of the tiles: tile_sample_min_height and so on, as diffusers calls them.",
    )


class StartParams(BaseModel):
    """What is served, and where it is started"""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model_path: CleanPath | None = Field(
        None,
        description="Folder of a Diffusers checkpoint, or Org/Name[@revision] on a hub. None: the bundled shapes.",
    )
    runtime: Literal["auto", "embedded", "docker", "podman"] = Field(
        "auto",
        description="Where to start Triton: embedded is this machine, the others a container that is gone afterwards. "
        "auto: embedded where its packages are installed, else the engine that is.",
    )
    image: str | None = Field(
        None,
        min_length=1,
        description="Image of the container. None: triton-video:VERSION-gpu where there is a GPU, else -cpu.",
    )


# Fields of the last base come first.
class ModelParams(StageParams, StartParams):
    """Server"""


class TokenParams(BaseModel):
    """Triton's token"""

    model_config = ConfigDict(frozen=True, extra="forbid")

    triton_token_file: CleanPath | None = Field(
        None,
        description="File with the token that a Triton on TCP requires to cancel and list jobs. "
        "Default: TRITON_VIDEO_TRITON_TOKEN, else a token kept in this user's cache folder.",
    )


class ServerParams(HangSettings, ModelParams, TokenParams):
    """Server"""

    triton_url: TritonUrl | None = Field(
        None,
        description="HOST:PORT of a running Triton's gRPC endpoint, to call it instead of starting one.",
    )
    dry_run: bool = Field(
        False, description="Print the commands that a container runtime would run, and do nothing."
    )


class ServersParams(ModelParams, TokenParams):
    """Server"""

    triton_url: TritonUrls = Field(
        (),
        description="HOST:PORT of a running Triton's gRPC endpoint, to use it instead of starting one; may come often.",
    )


class TritonParams(HangSettings, TokenParams):
    """Triton"""

    model_path: CleanPath | None = Field(
        None,
        description="Folder of a Diffusers checkpoint, or Org/Name[@revision] on a hub. None: the bundled shapes.",
    )
    model_repository: CleanPath | None = Field(
        None,
        description="Folder of a model repository, to serve it as it is; else one is prepared for --model-path.",
    )
    host: str = Field(
        "127.0.0.1",
        description="Address to listen on; 0.0.0.0 for all. unix:FOLDER: sockets in a private folder, no ports.",
    )
    http_port: int = Field(8000, ge=1, le=65535, description="Port of HTTP.")
    grpc_port: int = Field(
        8001, ge=1, le=65535, description="Port of gRPC: what --triton-url of others names."
    )
    metrics_port: int = Field(8002, ge=1, le=65535, description="Port of Triton's metrics.")
    until_stdin_ends: bool = Field(False, description="Also stop when standard input ends.")


class WorkerServersParams(TokenParams):
    """Server"""

    triton_url: Annotated[TritonUrls, Len(min_length=1)] = Field(
        description="HOST:PORT of a running Triton's gRPC endpoint; may come often."
    )


class SourceParams(BaseModel):
    """Checkpoint"""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model_path: CleanPath = Field(
        description="Folder of a Diffusers checkpoint, or Org/Name[@revision] on a hub."
    )
    allow_pickle: bool = Field(
        False, description="Convert weights that are there in pickles only to safetensors."
    )
    revision: str | None = Field(
        None, min_length=1, description="Branch, tag or commit of the checkpoint on the hub."
    )


class ExportParams(StageParams):
    """Repository"""

    output: CleanPath = Field(
        description="Folder to write the model repository to; it is made whole or not at all."
    )
    overwrite: bool = Field(False, description="Replace an exported repository that is there.")
    dry_run: bool = Field(
        False, description="Print what would be done and the room it takes, and do nothing."
    )
    flavour: Flavour = Field(
        "python",
        description="What runs text encoders: ONNX Runtime in Triton's python backend, or a backend of its own.",
    )
    check: Texts = Field(
        (),
        description="Compute capabilities, such as sm89, that every graph is compiled for to see that it can be.",
    )


class ReferenceParams(BaseModel):
    """Reference"""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input_reference: CleanPath | None = Field(
        None,
        description="Picture (PNG, JPEG or WebP) that the video begins from. Without a size the video has its shape.",
    )


class OutputParams(BaseModel):
    """Output"""

    model_config = ConfigDict(frozen=True, extra="forbid")

    output_path: CleanPath = Field(
        Path("outputs"), description="Folder to save the video in; made when it is missing."
    )
    output_file_name: Annotated[str, AfterValidator(check_file_name)] | None = Field(
        None,
        description="Name of the video in that folder, ending in .mp4. Without one: made of the prompt's words.",
    )
    save_output: bool = Field(
        True, description="Save the video; without it nothing is written at all."
    )
    return_frames: bool = Field(
        False,
        description="Also save the raw frames beside the video, as a uint8 .npy file (frames, height, width, 3).",
    )
    overwrite: bool = Field(
        False, description="Replace an existing file of the name --output-file-name."
    )


class VerbosityParams(BaseModel):
    """Reporting"""

    model_config = ConfigDict(frozen=True, extra="forbid")

    quiet: bool = Field(
        False, description="No progress and no notes on standard error, errors only."
    )
    verbose: bool = Field(
        False, description="Show the traceback and the server's log when something fails."
    )


class LogParams(VerbosityParams):
    """Reporting"""

    log_format: Literal["text", "json"] = Field(
        "text", description="Form of the log's lines on standard error."
    )


class ReportParams(VerbosityParams):
    """Reporting"""

    # Called `json` everywhere but here, where it would shadow a method of pydantic's.
    as_json: bool = Field(
        False, alias="json", description="Print the result, or the error, as one JSON object."
    )


class AnswerParams(BaseModel):
    """Reporting"""

    model_config = ConfigDict(frozen=True, extra="forbid")

    as_json: bool = Field(
        False, alias="json", description="Print one JSON object instead of a table."
    )


class SeedParams(BaseModel):
    """Accepted for compatibility"""

    # What existing config files and scripts may say and this version does not act on. A value that
    # asks for what happens anyway is accepted; any other is refused, so that nothing is dropped
    # silently.
    model_config = ConfigDict(frozen=True, extra="forbid")

    enable_torch_compile: Off = Field(False, description="Compile with torch.")
    mask_strategy_file_path: Null = Field(None, description="Sparse attention masks.")


class AccessParams(BaseModel):
    """Access"""

    model_config = ConfigDict(frozen=True, extra="forbid")

    api_keys_file: CleanPath | None = Field(
        None,
        description="File with an API key on each line. Without one: TRITON_VIDEO_API_KEYS, separated by commas.",
    )
    auth: bool = Field(
        True, description="Ask for an API key; without any, one is made and printed."
    )


SHORT_FLAGS: Mapping[str, str] = {"quiet": "-q", "verbose": "-v"}
GROUPS: Mapping[str, type[BaseModel]] = {
    "sampling": SamplingParams,
    "reference": ReferenceParams,
    "server": ServerParams,
    "output": OutputParams,
    "report": ReportParams,
    "seed": SeedParams,
}
SERVE_GROUPS: Mapping[str, type[BaseModel]] = {
    "http": HttpSettings,
    "access": AccessParams,
    "jobs": JobSettings,
    "webhook": WebhookSettings,
    "bounds": Bounds,
    "server": ServersParams,
    "log": LogParams,
}
WORKER_GROUPS: Mapping[str, type[BaseModel]] = {
    "jobs": JobSettings,
    "webhook": WebhookSettings,
    "server": WorkerServersParams,
    "log": LogParams,
}
EXPORT_GROUPS: Mapping[str, type[BaseModel]] = {
    "source": SourceParams,
    "export": ExportParams,
    "report": ReportParams,
}
ANSWER_GROUPS: Mapping[str, type[BaseModel]] = {"answer": AnswerParams}
TRITON_GROUPS: Mapping[str, type[BaseModel]] = {
    "triton": TritonParams,
    "bounds": Bounds,
    "stages": StageParams,
    "report": VerbosityParams,
}
REPORT_GROUPS: Mapping[str, type[BaseModel]] = {"report": ReportParams}
TITLES: Mapping[str, str] = {
    "sampling": "Sampling",
    **{
        name: str(group.__doc__)
        for name, group in {
            **TRITON_GROUPS,
            **GROUPS,
            **WORKER_GROUPS,
            **SERVE_GROUPS,
            **EXPORT_GROUPS,
            **ANSWER_GROUPS,
        }.items()
        if name != "sampling"
    },
}


@dataclass(frozen=True)
class GenerateParams:
    """All that ``generate`` was told, checked. One field per group; the seed's group has nothing
    to act on.
    """

    sampling: SamplingParams
    reference: ReferenceParams
    server: ServerParams
    output: OutputParams
    report: ReportParams
