"""The documents name what the code has: tensors, errors, targets, variables; and every link
leads somewhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from cli.params.commands import ExportParams, GenerateParams, ServeParams, WorkerParams
from cli.params.options import VARIABLE_PREFIX, parameters_of
from cli.params.sources import CONFIG
from pipeline.ensemble import tensors
from pipeline.ensemble.tensors import Tensor
from pipeline.errors import TritonVideoError
from pipeline.triton.metric_names import METRICS, Metric
from proxy.app import create_app
from proxy.errors import Code, FailureCode
from proxy.metrics import Metrics
from proxy.settings import ProxySettings

ROOT = Path(__file__).resolve().parents[2]
CODE = ("pipeline", "export", "proxy", "cli", "models", "model_repository", "bench", "scripts")
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "models").rglob("*.md")]
)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def all_tensors() -> list[Tensor]:
    found = [value for value in vars(tensors).values() if isinstance(value, Tensor)]
    return [*tensors.SAMPLING, *found]


def errors(base: type[TritonVideoError] = TritonVideoError) -> Iterator[type[TritonVideoError]]:
    if base.__module__ == TritonVideoError.__module__:
        yield base
    for child in base.__subclasses__():
        yield from errors(child)


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of ``page``."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("tensor", all_tensors(), ids=lambda tensor: tensor.name)
def test_every_tensor_is_in_the_table_with_its_type_and_rank(tensor: Tensor):
    page = read("docs/architecture/02-model-repository.md")
    row = re.search(rf"^\| `{tensor.name}` \| (\w+) \| \[([^\]]+)\] \|", page, re.MULTILINE)
    assert row, "no row for this tensor"
    assert row[1] == tensor.datatype
    assert len(row[2].split(",")) == len(tensor.dims)


def test_every_model_of_the_repository_is_described():
    page = read("docs/architecture/02-model-repository.md")
    for model in (ROOT / "model_repository").glob("*/1/model.py"):
        assert f"| `{model.parents[1].name}` |" in page


@pytest.mark.parametrize("page", ["README.md", "docs/troubleshooting.md"])
def test_every_error_is_listed_with_its_exit_code(page: str):
    rows = [line for line in read(page).splitlines() if line.startswith("|")]
    for error in errors():
        assert any(
            row.startswith(f"| {error.exit_code} |") and f"`{error.__name__}`" in row
            for row in rows
        ), error


def test_every_route_is_documented():
    schema = create_app(ProxySettings(), [], []).openapi()
    page = read("docs/reference/http-api.md")
    routes = [
        f"{method.upper()} {path}"
        for path, methods in schema["paths"].items()
        for method in methods
    ]
    assert routes
    assert [
        route for route in routes if f"`{route}`" not in page and not route.startswith("HEAD")
    ] == []


@pytest.mark.parametrize("code", [*get_args(Code), *get_args(FailureCode)])
def test_every_code_of_an_answer_or_a_failed_job_is_documented(code: str):
    assert f"`{code}`" in read("docs/reference/http-api.md")


def test_every_metric_is_documented():
    page = read("docs/reference/metrics.md")
    names = re.findall(
        r"^# TYPE (\w+) (counter|histogram)", Metrics().page({}, {}).decode(), re.MULTILINE
    )
    assert names
    assert [
        name for name, _ in names if f"| `{name}` |" not in page and not name.endswith("_created")
    ] == []


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_every_metric_of_a_stage_is_documented(metric: Metric):
    assert f"| `{metric.name}` | {metric.kind} | {metric.description} |" in read(
        "docs/reference/metrics.md"
    )


def test_every_make_target_is_mentioned():
    texts = read("README.md") + read("docs/contributing.md")
    targets = re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE)
    assert targets
    assert [target for target in targets if not re.search(rf"\bmake {target}\b", texts)] == []


def test_every_environment_variable_is_documented():
    files = [
        file
        for folder in CODE
        for file in (ROOT / folder).rglob("*")
        if file.suffix in (".py", ".sh")
    ]
    used = {
        name
        for file in files
        for name in re.findall(rf"(?<!_){VARIABLE_PREFIX}[A-Z_]+", file.read_text(encoding="utf-8"))
    }
    declared = [
        *parameters_of(GenerateParams).values(),
        *parameters_of(ServeParams).values(),
        *parameters_of(WorkerParams).values(),
        *parameters_of(ExportParams).values(),
    ]
    used |= {parameter.variable for parameter in declared if parameter.variable}
    used.add(VARIABLE_PREFIX + CONFIG.upper())
    texts = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert [name for name in sorted(used) if not re.search(rf"\b{name}\b", texts)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_resolves(page: Path):
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.is_relative_to(ROOT), f"{link} leads out of the repository"
        assert target.exists(), f"{link} leads nowhere"
        assert not anchor or anchor in anchors(target), f"{target.name} has no heading #{anchor}"


def test_decisions_are_numbered_without_gaps_and_short():
    pages = sorted((ROOT / "docs/decisions").glob("*.md"))
    assert [page.name[:4] for page in pages] == [
        f"{number:04}" for number in range(1, len(pages) + 1)
    ]
    for page in pages:
        lines = page.read_text(encoding="utf-8").splitlines()
        assert lines[0].startswith(f"# {page.name[:4]}: ")
        assert len(lines) <= 25, f"{page.name} has {len(lines)} lines"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_lines_have_at_most_100_columns_except_tables_and_addresses(page: Path):
    lines = page.read_text(encoding="utf-8").splitlines()
    assert [
        line
        for line in lines
        if len(line) > 100 and not line.startswith(("|", "[")) and " " in line
    ] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_have_no_control_characters(page: Path):
    assert not re.search(r"[^\n -\uffff]", page.read_text(encoding="utf-8"))
