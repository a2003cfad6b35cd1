"""The static files of the page and of the API reference, and their headers."""

from __future__ import annotations

import pytest

from proxy.routes.page import FOLDER
from tests.proxy.conftest import Opener

PATHS = {"/": "text/html; charset=utf-8", "/docs": "text/html; charset=utf-8"} | {
    "/ui/main.js": "text/javascript; charset=utf-8",
    "/ui/page.css": "text/css; charset=utf-8",
    "/ui/icon.svg": "image/svg+xml",
}


async def test_files_need_no_key_and_have_a_strict_policy(serve: Opener) -> None:
    async with serve() as api:
        for path, kind in PATHS.items():
            answer = await api.http.get(path, headers={"authorization": ""})
            assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
            policy = answer.headers["content-security-policy"]
            assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
            assert "frame-ancestors 'none'" in policy
            assert not any(word in policy for word in ("unsafe", "http:", "https:", "*", "data:"))
            assert answer.headers["x-content-type-options"] == "nosniff"


async def test_browser_reads_a_file_again_only_after_a_change(serve: Opener) -> None:
    async with serve() as api:
        first = await api.http.get("/")
        assert first.headers["cache-control"] == "no-cache"
        known = {"if-none-match": first.headers["etag"]}
        again = await api.http.get("/", headers=known)
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["content-security-policy"]
        assert (await api.http.get("/docs", headers=known)).status_code == 200


async def test_no_ui_serves_neither_page(serve: Opener) -> None:
    async with serve(ui=False) as api:
        for path in PATHS:
            answer = await api.http.get(path)
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_url")
        assert (await api.http.get("/openapi.json")).status_code == 200


async def test_other_methods_are_refused(serve: Opener) -> None:
    async with serve() as api:
        assert (await api.http.head("/")).status_code == 200
        answer = await api.http.post("/")
        assert (answer.status_code, answer.json()["error"]["code"]) == (405, "method_not_allowed")


@pytest.mark.parametrize(
    "path", ["/ui/", "/ui/none.js", "/ui/../app.py", "/ui/..%2f..%2fapp.py", "/ui/%00", "/docs/"]
)
async def test_paths_beside_the_files_are_unknown(serve: Opener, path: str) -> None:
    async with serve() as api:
        answer = await api.http.get(path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_url")


def test_pages_hold_no_inline_script_or_style_and_name_no_other_server() -> None:
    for file in FOLDER.iterdir():
        text = file.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text
        assert "https://" not in text
        if file.suffix == ".html":
            assert "<style" not in text
            assert " style=" not in text
            assert text.count("<script") == text.count('<script type="module" src=')
