"""openapi.json and the server agree."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import httpx2 as httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from cli.commands.serve import listening
from pipeline.checkpoint.folder import Checkpoint
from proxy.app import create_app
from proxy.fields import CreateVideo
from proxy.server import Server
from proxy.settings import ProxySettings
from proxy.spellings import PROPERTIES
from tests.proxy.clips import clip
from tests.proxy.conftest import SHAPES, FakeTriton

OPEN_TO_ALL = {"/livez", "/readyz", "/health"}
EXAMPLES = 30  # for each operation
HEADERS = {"Authorization": "Bearer key-a"}
MAKING = {
    f"POST /v1/{path}"
    for path in ("videos", "videos/sync", "videos/edits", "videos/extensions", "images/generations")
}
DOCUMENT = create_app(ProxySettings(), ["unused:1"], []).openapi()
CASES = [
    (f"{method.upper()} {path}", mode)
    for path, methods in DOCUMENT["paths"].items()
    for method in methods
    for mode in GenerationMode
    if mode.is_positive or path not in OPEN_TO_ALL  # where nothing can be said, nothing is wrong
]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The application behind a socket, in front of a fake Triton."""
    with pytest.MonkeyPatch.context() as patch, listening("127.0.0.1", 0) as sock:
        patch.setattr(
            "proxy.tritons.AsyncVideoClient",
            lambda url, token: FakeTriton(
                Checkpoint.open(SHAPES).info.model_copy(update={"edits": True, "extends": True}),
                mp4=lambda prompt: clip(),
            ),
        )
        settings = ProxySettings(data_path=tmp_path_factory.mktemp("data"), max_queued=100_000)
        app = create_app(settings, ["unused:1"], ["key-a"])
        server = Server(app, settings, drain_s=5)
        thread = threading.Thread(target=server.run, args=([sock],))
        thread.start()
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def openapi(url: str) -> Any:
    return schemathesis.openapi.from_url(f"{url}/openapi.json", wait_for_schema=10)


@pytest.fixture(scope="module")
def made(url: str) -> str:
    """The id of a completed video whose file is a real one."""
    answer = httpx.post(f"{url}/v1/videos/sync", json={"prompt": "x"}, headers=HEADERS, timeout=30)
    return answer.headers["x-video-id"]


@pytest.mark.slow
@pytest.mark.parametrize(("label", "mode"), CASES)
def test_responses_to_generated_requests_match_the_document(
    openapi: Any, made: str, label: str, mode: GenerationMode
) -> None:
    """Valid and invalid requests get a documented status, content type and body, never a 5xx.

    A route that makes something does so for at least one of the valid requests.
    """
    # A schema cannot express the sizes and lengths of a model, so 400 is also right for a request
    # that matches it.
    loose = [positive_data_acceptance]
    if label.startswith("GET"):
        loose.append(negative_data_rejection)  # unknown words in a query are nobody's fault

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=HealthCheck,
    )
    @given(case=openapi.find_operation_by_label(label).as_strategy(generation_mode=mode))
    def check(case: schemathesis.Case) -> None:
        if mode.is_positive and isinstance(case.body, dict) and "video" in case.body:
            case.body["video"] = {"id": made}  # an id that exists, which no schema can express
        answer = case.call_and_validate(headers=HEADERS, excluded_checks=loose)
        statuses.add(answer.status_code)

    statuses: set[int] = set()
    check()
    if mode.is_positive and label in MAKING:
        assert 200 in statuses


def test_document_is_valid(openapi: Any) -> None:
    openapi.validate()


@pytest.mark.parametrize("encoding", ["application/json", "multipart/form-data"])
def test_create_documents_every_field_in_both_encodings(encoding: str) -> None:
    body = DOCUMENT["paths"]["/v1/videos"]["post"]["requestBody"]["content"][encoding]["schema"]
    assert body["properties"].keys() == {*CreateVideo.model_fields, *PROPERTIES}
    assert (body["required"], body["additionalProperties"]) == (["prompt"], False)
    assert all(field["description"] for field in body["properties"].values())


def test_only_a_form_holds_files() -> None:
    files = {"application/json": 0, "multipart/form-data": 0}
    for _, operation in operations():
        for encoding, body in operation.get("requestBody", {}).get("content", {}).items():
            files[encoding] += str(body["schema"]).count("binary")
    assert files["application/json"] == 0
    assert files["multipart/form-data"] > 0


@pytest.mark.parametrize("path", ["/v1/videos/edits", "/v1/videos/extensions"])
def test_video_that_is_made_of_another_documents_and_requires_it(path: str) -> None:
    body = DOCUMENT["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    schema, allowed = body["schema"], set(CreateVideo.model_fields)
    if path.endswith("extensions"):
        allowed.remove("strength")
    assert schema["properties"].keys() == {*allowed, *PROPERTIES, "video"}
    assert schema["required"] == ["prompt", "video"]
    for example in body["examples"].values():
        assert example["value"].keys() <= schema["properties"].keys()


def test_images_document_no_field_of_a_length() -> None:
    body = DOCUMENT["paths"]["/v1/images/generations"]["post"]["requestBody"]["content"]
    fields = body["application/json"]["schema"]["properties"]
    assert fields.keys() >= {"prompt", "n", "response_format", "output_format", "size", "seed"}
    assert not fields.keys() & {"seconds", "num_frames", "fps", "duration"}
    assert all(field["description"] for field in fields.values())


@pytest.mark.parametrize(
    "path",
    [
        "/v1/videos",
        "/v1/videos/sync",
        "/v1/videos/{video_id}/remix",
        "/v1/videos/edits",
        "/v1/videos/extensions",
        "/v1/images/generations",
    ],
)
def test_examples_of_a_body_are_accepted(url: str, made: str, path: str) -> None:
    body = DOCUMENT["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    with httpx.Client(base_url=url, headers=HEADERS, timeout=30) as http:
        for name, example in body["examples"].items():
            fields = example["value"]
            if "video" in fields:
                fields = fields | {"video": {"id": made}}
            answer = http.post(path.format(video_id=made), json=fields)
            assert answer.status_code == 200, (name, answer.text)


def test_every_documented_error_has_the_same_shape() -> None:
    shape = {"$ref": "#/components/schemas/ErrorAnswer"}
    for path, operation in operations():
        for status, answer in operation["responses"].items():
            if status[0] in "45d" and path not in OPEN_TO_ALL:
                assert answer["content"]["application/json"]["schema"] == shape, (path, status)
    create = DOCUMENT["paths"]["/v1/videos"]["post"]["responses"]
    assert create.keys() >= {"400", "401", "404", "409", "413", "415", "429", "503"}


def test_every_route_but_health_documents_the_bearer_key() -> None:
    ((name, scheme),) = DOCUMENT["components"]["securitySchemes"].items()
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    for path, operation in operations():
        assert ("security" not in operation) == (path in OPEN_TO_ALL), path
        assert operation.get("security", [{name: []}]) == [{name: []}]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/openapi.json", 200, None),
        ("GET", "/nowhere", 404, "unknown_url"),
        ("GET", "/v1/videos/", 404, "unknown_url"),
        ("PUT", "/v1/videos", 405, "method_not_allowed"),
        ("GET", "/v1/videos/none", 401, "invalid_api_key"),
        ("PUT", "/v1/videos/none/content", 405, "method_not_allowed"),
    ],
)
def test_caller_without_a_key_learns_nothing_about_videos(
    url: str, method: str, path: str, status: int, code: str | None
) -> None:
    """Without a key: openapi.json and health, and the same error for any video id."""
    answer = httpx.request(method, url + path)
    assert answer.status_code == status
    assert answer.json().get("error", {}).get("code") == code
    assert not any(header in answer.headers for header in ("location", "server-timing"))


def test_every_operation_and_field_is_described() -> None:
    for path, operation in operations():
        assert operation["description"], path
        assert all(parameter["description"] for parameter in operation.get("parameters", ())), path


def operations() -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in DOCUMENT["paths"].items():
        for operation in methods.values():
            yield path, operation
