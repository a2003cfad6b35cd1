"""The table of docs/clients/index.md: what each client does with this server, as the tests see it.

`python -m scripts.client_matrix` writes it, and `test_matrix.py` compares it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tests.conftest import ROOT

FOLDER = ROOT / "docs" / "clients"
PAGE = FOLDER / "index.md"
ACTIONS = (
    "create", "poll", "list", "download", "delete", "image", "edits", "extensions", "errors",
)  # fmt: skip
HEAD = f"| client | tested | {' | '.join(ACTIONS)} |\n|{'---|' * (len(ACTIONS) + 2)}"


class Outcomes(dict[str, str]):
    """What became of each action of `ACTIONS` that a client knows: "" if it worked, else what was
    seen instead.
    """

    def note(self, action: str, worked: object, seen: object = None) -> None:
        self[action] = "" if worked else f"saw {str(seen)[:2000]}"


@dataclass(frozen=True)
class Client:
    """A row of the table. ``how`` is "run" or "replayed"."""

    name: str
    title: str
    page: str
    how: str = "run"

    def row(self, outcomes: Mapping[str, str]) -> str:
        words = {"": "yes", None: "-"}
        cells = [words.get(outcomes.get(action), "no") for action in ACTIONS]
        return f"| {' | '.join([f'[{self.title}]({self.page})', self.how, *cells])} |"


QUICK = (
    Client("openai_python", "OpenAI SDK for Python 2, 3", "openai.md"),
    Client("openai_node", "OpenAI SDK for Node 6, 7", "openai.md#node"),
    Client("curl", "curl", "curl.md"),
    Client("browser", "Browser, the server's page", "browser.md"),
    Client("n8n", "n8n", "n8n.md", "replayed"),
    Client("new_api", "new-api, one-api", "new-api.md", "replayed"),
    Client("vllm_omni", "vLLM-Omni's and FastVideo's shape", "shapes.md", "replayed"),
    Client("openrouter", "OpenRouter's shape", "shapes.md#openrouter", "replayed"),
    Client("vercel", "Vercel AI SDK, openai-compatible", "shapes.md#vercel-ai-sdk", "replayed"),
)
"""Clients of `make test`."""
INSTALLED = (
    Client("litellm_hosted_vllm", "LiteLLM, `hosted_vllm/`", "litellm.md"),
    Client("litellm_openai", "LiteLLM, `openai/`", "litellm.md"),
    Client("litellm_proxy", "LiteLLM proxy", "litellm.md#proxy"),
    Client("promptfoo", "promptfoo", "promptfoo.md"),
    Client("aiperf", "AIPerf", "aiperf.md"),
    Client("sglang_benchmark", "sglang's benchmark client", "sglang-benchmark.md"),
)
"""Clients of scripts/client_programs.sh, which only `make test-all` runs."""
