"""The token of a Triton on TCP: configured, stored or generated."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cli.params.groups import TokenGroup
from cli.run.triton_token import FILE, VARIABLE, known_token, required_token
from pipeline.errors import InputError, OutputError

LOCAL, REMOTE = ["127.0.0.1:8001"], ["gpu-3:8001"]
TOKEN = "t" * 24


@pytest.fixture
def cache(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setenv("TRITON_VIDEO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_generated_token_is_stored_for_the_user(cache):
    made = required_token(TokenGroup(), {})
    assert len(made) >= 32
    assert stat.S_IMODE((cache / FILE).stat().st_mode) == 0o600
    assert required_token(TokenGroup(), {}) == known_token(TokenGroup(), LOCAL, {}) == made
    assert [path.name for path in cache.iterdir()] == [FILE]


@pytest.mark.parametrize("url", ["unix:/run/x", "localhost:1", "[::1]:1", "grpc://127.0.0.1:1"])
def test_stored_token_is_sent_to_this_machine(cache, url):
    assert required_token(TokenGroup(), {}) == known_token(TokenGroup(), [url], {})


@pytest.mark.parametrize(
    "url", ["gpu-3:8001", "localhost.example.org:1", "127.0.0.1.example.org:1"]
)
def test_stored_token_is_not_sent_elsewhere(cache, url):
    required_token(TokenGroup(), {})
    assert known_token(TokenGroup(), [*LOCAL, url], {}) is None


def test_simultaneous_starts_share_one_token(cache):
    with ThreadPoolExecutor(16) as pool:
        assert len(set(pool.map(lambda _: required_token(TokenGroup(), {}), range(64)))) == 1


def test_token_file_precedes_variable_and_stored_token(cache, tmp_path):
    required_token(TokenGroup(), {})
    file = tmp_path / "file"
    file.write_text(f"{TOKEN}\n")
    assert known_token(TokenGroup(triton_token_file=file), REMOTE, {VARIABLE: "v" * 24}) == TOKEN
    assert known_token(TokenGroup(), REMOTE, {VARIABLE: "v" * 24}) == "v" * 24


def test_bad_tokens_are_refused(cache, tmp_path):
    with pytest.raises(
        InputError, match="TRITON_VIDEO_TRITON_TOKEN must contain at least 16 characters"
    ):
        required_token(TokenGroup(), {VARIABLE: "short"})
    with pytest.raises(InputError, match="triton_token_file: cannot be read"):
        known_token(TokenGroup(triton_token_file=tmp_path / "missing"), LOCAL, {})


def test_a_cache_that_cannot_be_written_is_named(cache):
    cache.write_text("a file")
    with pytest.raises(OutputError, match="set TRITON_VIDEO_TRITON_TOKEN, or TRITON_VIDEO_CACHE"):
        required_token(TokenGroup(), {})
    assert known_token(TokenGroup(), LOCAL, {}) is None
