"""Writes the pages of the commands in ``docs/reference``: ``python -m cli.docgen`` (``--check``
only compares).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from cli.interrupts import SIGNALS
from cli.params.groups import (
    ANSWER_GROUPS,
    EXPORT_GROUPS,
    GROUPS,
    SERVE_GROUPS,
    TITLES,
    TRITON_GROUPS,
    WORKER_GROUPS,
)
from cli.params.options import Parameter, parameters_of
from pipeline import errors
from pipeline.families import SamplingParams
from proxy.creation import EXTRA_BODY_PROPERTIES, CreateVideo

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "reference"
INTRODUCTION = """\
<!-- Made by `python -m cli.docgen` from cli/params/groups.py and pipeline/errors.py. Do not edit. -->

# `triton-video generate`

Makes one video from a prompt. It starts a Triton Inference Server for this run and stops it at the end, or calls one
that runs already (`--triton-url`).

    triton-video generate --prompt "a red circle moves right on a white background"

Values come from, strongest first: flags, environment variables, the config file, the model. An unknown flag or key is
an error. All that is wrong with flags, variables and file is told at once, before anything starts, the file's with its
line. [`config show`](tools.md) tells what would be used and why.

- **Flags** are `--height 64` or `--height=64`, and a value that is itself called like a flag needs the second form. A
  switch is turned off by the flag that begins with `--no-`. Options in an array of bash are `"${SERVER_ARGS[@]}"`.
- **Config file**: `--config FILE` (or `TRITON_VIDEO_CONFIG`) names a JSON or YAML file that maps the keys below to
  values. A key with a dot stands in a mapping: `vae_config: {tile_sample_min_height: 256}`. `null` is "not given". A
  relative path in it is relative to the folder the command runs in.
- **Environment**: an empty variable is "not given". A switch takes `true` or `false`. `TRITON_VIDEO_CACHE`
  is the folder that keeps rendered model repositories (default: `triton-video` in the user's cache folder).

## Output

The path of the video is all that is printed on standard output; progress and notes go to standard error. With `--json`
standard output is one object:

    {"video", "frames", "seed", "width", "height", "num_frames", "fps", "num_inference_steps", "guidance_scale",
     "model", "seconds": {"prepare", "start", "denoise", "decode", "total"}}

`video` and `frames` are paths, or null where nothing was saved; `model` is null with `--triton-url`. After a failure
it is `{"error": {"type", "message", "field"}}`, where `field` is the parameter at fault, if there is one, and beside it
`"errors"` lists all errors when there are several.

Without `--output-file-name` the video is named after the prompt, and `-2`, `-3` and so on keep names apart. An existing
file is replaced only with `--overwrite`. Should another program take the chosen name while the video is made, the video
is saved under the next free one.

## Exit codes

| code | when |
|---|---|
| 0 | The video was made, and saved unless told otherwise |
"""
SERVE_INTRODUCTION = """\
<!-- Made by `python -m cli.docgen` from cli/params/groups.py and proxy/settings.py. Do not edit. -->

# `triton-video serve`

Serves the [Videos API](http-api.md), in front of a Triton it starts or of one that runs already (`--triton-url`).
Values come from, strongest first: flags, environment variables, the config file (`--config FILE`), the defaults below.

    TRITON_VIDEO_API_KEYS=secret triton-video serve

API keys come from `--api-keys-file`, else from `TRITON_VIDEO_API_KEYS` (separated by commas). With neither, a key is
made for this run and printed. `--no-auth` lets everybody in.

A list is a flag that comes often, a list in a config file, or words between commas in an environment variable.

## Database and store

Jobs are kept in SQLite and videos in a folder, both in `--data-path`. For several processes on several hosts name a
PostgreSQL and a bucket that they share. Other users of a machine can read the flags of a process: give a URL with a
password by `TRITON_VIDEO_DATABASE_URL`. PostgreSQL's `sslmode` may stand in the URL (`?sslmode=verify-full`). What a
bucket needs comes from the usual variables: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`, and for another
S3 than Amazon's `AWS_ENDPOINT_URL` (and `AWS_ALLOW_HTTP=true` if that is not HTTPS); `GOOGLE_APPLICATION_CREDENTIALS`;
`AZURE_STORAGE_ACCOUNT_NAME`, `AZURE_STORAGE_ACCOUNT_KEY`.
"""
WORKER_INTRODUCTION = """\
<!-- Made by `python -m cli.docgen` from cli/params/groups.py and proxy/settings.py. Do not edit. -->

# `triton-video worker`

Makes the videos that `triton-video serve` queues, without HTTP of its own. Any number of workers and of servers share
[one database and one store](serve.md#database-and-store); a server that should only answer is started with
`--no-worker`. SIGTERM puts the jobs in hand back into the queue. Values come from the same places as those of
[`serve`](serve.md).

    triton-video worker --triton-url gpu-1:8001 --triton-url gpu-2:8001

A list is a flag that comes often, a list in a config file, or words between commas in an environment variable.
"""
TRITON_INTRODUCTION = """\
<!-- Made by `python -m cli.docgen` from cli/params/groups.py. Do not edit. -->

# `triton-video triton`

Runs Triton alone, in the foreground: for [`serve`](serve.md) and [`worker`](worker.md) with `--triton-url`, or for any
Triton client, here or on another machine. It is what the [images](../containers.md) of a fleet run. Values come from
the same places as those of [`serve`](serve.md).

    triton-video triton --model-path models/shapes --grpc-port 8001

Everyone who reaches its ports can make videos and read metrics, without a key: open them to a private
network only. Closed to them are loading and unloading models, Triton's shared-memory, logging and trace APIs,
and, without the token, cancelling and listing jobs. The token comes from `--triton-token-file`, else from
`TRITON_VIDEO_TRITON_TOKEN`, else from the file `triton-token` in the cache folder, which is made at the first
start; `serve`, `worker` and `generate` of the same user find it there. `--host unix:FOLDER` opens no port at
all. A stage that dies or hangs means that tritonserver is started again.
"""
EXPORT_INTRODUCTION = """\
<!-- Made by `python -m cli.docgen` from cli/params/groups.py. Do not edit. -->

# `triton-video export`

Turns a checkpoint into a model repository that a stock `tritonserver` serves. The [guide](../export.md) says what is in
it and how to bring it to a GPU machine. Values come from, strongest first: flags, environment variables, the config
file (`--config FILE`), the defaults below.

    triton-video export --model-path models/shapes --output repository

Standard output is the path of the repository, with `--json` its whole manifest; with `--dry-run` it is the plan. A list
is a flag that comes often, a list in a config file, or words between commas.

    triton-video export inspect REPO     # what it holds; --json: the manifest
    triton-video export verify REPO      # read every file again, the checkpoint's too, compare hashes, then graphs

Both take the flags under Reporting, and `verify` prints the path of a repository that is whole. [Exit
codes](cli.md#exit-codes) are those of `generate`: 3 for a checkpoint or a repository that is broken, 5 for an output
that cannot be written.
"""
TOOLS_INTRODUCTION = """\
<!-- Made by `python -m cli.docgen` from cli/params/groups.py. Do not edit. -->

# Commands that look

None of them starts a server, downloads anything or loads torch.

## `triton-video doctor`

Looks at Python and its packages, the embedded Triton, GPU and driver, container engines, memory, disk, shared memory
and the port of `serve`, and says what to do. The exit code is 0 unless something would stop a run on this machine, else
4.

    triton-video doctor

## `triton-video models`

Lists the [families](../families.md) that are known with their native sizes, the checkpoints on this machine (the
bundled one, and those in the hub's cache, found by `HF_HUB_CACHE` and `HF_HOME`), whether each can be used, and what
the caches take.

    triton-video models

## `triton-video config show`

Takes the name of a command and that command's flags, and shows each parameter's value and where it comes from: a flag,
an environment variable, a file and its line, the model, or the default. What is wrong is told as the command itself
would; what is missing is shown as that. URLs that may hold a password are not shown. `--json` prints
`{"command", "values": {KEY: {"value", "from"}}}`.

    triton-video config show generate --config clip.yaml --seed 1
    triton-video config show serve

It knows `generate`, `serve`, `worker`, `export` and `triton`.

## `triton-video completion`

Prints what makes a shell complete commands, flags and their values.

    triton-video completion bash > ~/.local/share/bash-completion/completions/triton-video
    triton-video completion zsh > ~/.zfunc/_triton-video
    triton-video completion fish > ~/.config/fish/completions/triton-video.fish

For zsh the folder has to be in `$fpath` before `compinit` runs.

`doctor` and `models` take the flag below.
"""
FIELDS_INTRODUCTION = """\
<!-- Made by `python -m cli.docgen` from proxy/creation.py. Do not edit. -->

# Fields of a create request

What the body of `POST /v1/videos` and of `POST /v1/videos/sync` may hold, as JSON or as a form. [The HTTP
API](http-api.md#creating) says how they act together. The fields of this server stand at the top or inside
`extra_params`, where OpenAI's SDKs put what they do not know (`extra_body`). What is left out is the model's own.
"""
SEED_NOTE = "Known from other servers, not acted on: each accepts what happens anyway, and refuses any other value."


def pages() -> dict[str, str]:
    """File name -> the whole page."""
    lines = {
        "cli.md": (*_exit_codes(), *_parameters(GROUPS)),
        "serve.md": (SERVE_INTRODUCTION.rstrip("\n"), *_parameters(SERVE_GROUPS)),
        "export.md": (EXPORT_INTRODUCTION.rstrip("\n"), *_parameters(EXPORT_GROUPS)),
        "http-fields.md": (FIELDS_INTRODUCTION.rstrip("\n"), *_http_fields()),
        "tools.md": (TOOLS_INTRODUCTION.rstrip("\n"), *_parameters(ANSWER_GROUPS)),
        "worker.md": (WORKER_INTRODUCTION.rstrip("\n"), *_parameters(WORKER_GROUPS)),
        "triton.md": (TRITON_INTRODUCTION.rstrip("\n"), *_parameters(TRITON_GROUPS)),
    }
    return {name: "".join(f"{line}\n" for line in page) for name, page in lines.items()}


def main(arguments: Iterable[str] = sys.argv[1:]) -> int:
    for name, page in pages().items():
        path = FOLDER / name
        if "--check" not in arguments:
            FOLDER.mkdir(parents=True, exist_ok=True)
            path.write_text(page, encoding="utf-8")
        elif not path.is_file() or path.read_text(encoding="utf-8") != page:
            print(f"{name} is stale: run python -m cli.docgen", file=sys.stderr)
            return 1
    return 0


def _exit_codes() -> Iterator[str]:
    yield INTRODUCTION.rstrip("\n")
    classes = [errors.TritonVideoError, *errors.TritonVideoError.__subclasses__()]
    own = sorted(
        (kind for kind in classes if kind.__module__ == errors.__name__),
        key=lambda kind: kind.exit_code,
    )
    for kind in own:
        text = "Anything else" if kind is errors.TritonVideoError else _first_line(kind)
        yield f"| {kind.exit_code} | {text} (`{kind.__name__}`) |"
    stops = " or ".join(f"{128 + number} ({number.name})" for number in SIGNALS[1:])
    yield f"| 128 + n | The run was stopped by signal n: 130 (Ctrl-C), {stops} |"


def _first_line(kind: type) -> str:
    return (kind.__doc__ or "").strip().splitlines()[0].rstrip(".")


def _parameters(groups: Mapping[str, type[BaseModel]]) -> Iterator[str]:
    for group in groups:
        title = TITLES[group]
        yield from ("", f"## {title}", "")
        if group == "seed":
            yield from (SEED_NOTE, "")
        yield from (
            "| flag | config key | environment | value | default | |",
            "|---|---|---|---|---|---|",
        )
        yield from (
            _row(parameter)
            for parameter in parameters_of(groups).values()
            if parameter.group == group
        )


def _http_fields() -> Iterator[str]:
    schema = CreateVideo.model_json_schema()["properties"] | EXTRA_BODY_PROPERTIES
    own = [name for name in SamplingParams.model_fields if name != "prompt"] + ["extra_params"]
    titles = {"OpenAI's": [name for name in schema if name not in own], "This server's": own}
    for title, names in titles.items():
        yield from ("", f"## {title}", "", "| field | value | |", "|---|---|---|")
        yield from (
            f"| `{name}` | {_value_words(schema[name])} | {schema[name]['description']} |"
            for name in names
        )


def _value_words(schema: Mapping[str, Any]) -> str:
    """A field's type and bounds, null aside: what is not given is left out."""
    kinds = [kind for kind in schema.get("anyOf", [schema]) if kind.get("type") != "null"]
    return " or ".join(_kind_words(kind) for kind in kinds)


def _kind_words(kind: Mapping[str, Any]) -> str:
    names = {
        "integer": "a whole number",
        "number": "a number",
        "string": "text",
        "object": "an object",
    }
    words = "a file" if kind.get("format") == "binary" else names[kind["type"]]
    bounds = (
        ("from {}", "minimum"),
        ("over {}", "exclusiveMinimum"),
        ("up to {}", "maximum"),
        ("of up to {} characters", "maxLength"),
    )
    return " ".join([words, *(text.format(kind[key]) for text, key in bounds if key in kind)])


def _row(parameter: Parameter) -> str:
    flags = (parameter.short_flag, parameter.flag, parameter.off_flag)
    value = " \\| ".join(f"`{choice}`" for choice in parameter.choices) or parameter.kind.words
    cells = (
        ", ".join(f"`{flag}`" for flag in flags if flag) or "-",
        f"`{parameter.key}`",
        f"`{parameter.variable}`" if parameter.variable else "-",
        value,
        parameter.default_words,
        str(parameter.field.description),
    )
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
