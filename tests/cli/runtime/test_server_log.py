"""Lines of tritonserver 2.51, as it wrote them."""

from pathlib import Path

import pytest

from cli.runtime.server_log import ServerLog

HEAD = "1124 08:45:14.486792 5799"


@pytest.fixture
def log(tmp_path: Path) -> ServerLog:
    return ServerLog(tmp_path / "server.log", models=3)


def write(log: ServerLog, text: str) -> None:
    with log.path.open("a") as file:
        file.write(text)
    log.read()


def test_no_file_yet(log):
    log.read()
    assert (log.progress, log.failure, log.text()) == (None, None, "")


def test_progress_names_the_loading_model(log):
    write(log, f'I{HEAD} model_lifecycle.cc:472] "loading: tokenizer:1"\n')
    write(log, f'I{HEAD} model_lifecycle.cc:472] "loading: dit:1"\n')
    assert log.progress == "loading tokenizer (1/3)"
    assert log.waiting == "still loading dit, tokenizer (0 of 3 are loaded)"
    write(log, f"I{HEAD} model_lifecycle.cc:839] \"successfully loaded 'tokenizer'\"\n")
    assert log.progress == "loading dit (2/3)"
    write(log, f"I{HEAD} model_lifecycle.cc:839] \"successfully loaded 'dit'\"\n")
    assert (log.progress, log.waiting) == (None, None)


def test_incomplete_line_is_read_later(log):
    write(log, f'I{HEAD} model_lifecycle.cc:472] "loading: di')
    assert log.progress is None
    write(log, 't:1"\n')
    assert log.progress == "loading dit (1/3)"


FAILURES = {
    r'"failed to load '
    r"""'dit' version 1: Internal: KeyError: no \"a\"\nb\n\nAt:\n  m.py(3)\n" """.strip(): (
        "model 'dit': KeyError: no \"a\" b"
    ),
    "\"failed to load model 'dit': at least one version must be available\"": (
        "model 'dit': at least one version must be available"
    ),
    "\"failed to load 'dit' version 1: Internal: Stub process 'dit_0_0' is not healthy.\"": (
        "model 'dit': its python process ended while it was loading"
    ),
    '"Invalid argument: ensemble video contains models that are not available or ambiguous: dit"': (
        "model 'video': ensemble video contains models that are not available or ambiguous: dit"
    ),
}


@pytest.mark.parametrize(("message", "failure"), FAILURES.items())
def test_failures(log, message, failure):
    write(log, f"E{HEAD} model_lifecycle.cc:642] {message}\n")
    assert log.failure == failure


def test_last_error_skips_noise(log):
    write(
        log,
        f'E{HEAD} x.cc:1] "disk on fire"\n'
        f'E{HEAD} server.cc:241] "CudaDriverHelper has not been initialized."\n',
    )
    write(log, "error: creating server: Internal - failed to load all models\n")
    assert log.last_error == "disk on fire"


def test_text_has_no_tables(log):
    write(log, "one\n+-----+\n| Option | Value |\n+-----+\n\ntwo\n")
    assert log.text() == "one\ntwo"
