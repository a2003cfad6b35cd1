"""``triton-video serve`` up to the point where it listens: keys, parameters and what it starts."""

from __future__ import annotations

import contextlib
import re
import socket
import stat

import pytest

from cli.commands import serve
from cli.main import run
from cli.params.credentials import (
    KEY_FILE,
    KEYS_VARIABLE,
    WEBHOOK_VARIABLE,
    ApiKeys,
    api_keys,
    webhook_secret,
)
from cli.params.groups import AccessGroup
from cli.run.checkpoints import bundled_checkpoint
from pipeline.checkpoint.folder import Checkpoint
from pipeline.errors import InputError, OutputError
from proxy.settings import WebhookSettings


@pytest.fixture
def served(monkeypatch, tmp_path):
    """Takes the place of the server: what it was called with."""
    calls = []
    monkeypatch.chdir(tmp_path)

    class Ended(contextlib.nullcontext):
        """A server that was stopped at once."""

        def __enter__(self):
            return self

        def wait(self):
            pass

    def serving(settings, urls, keys, secret, sock, **_):
        calls.append((settings, urls, keys.values))
        return Ended()

    monkeypatch.setattr(serve, "serving", serving)
    monkeypatch.delenv(KEYS_VARIABLE, raising=False)
    return calls


@pytest.fixture
def info():
    return Checkpoint.open(bundled_checkpoint()).info


def test_keys_from_the_environment(served, monkeypatch):
    monkeypatch.setenv(KEYS_VARIABLE, " one, two,,")
    assert run(["serve", "--triton-url", "localhost:8001", "--port", "0"]) == 0
    ((settings, urls, keys),) = served
    assert (settings.port, settings.host, urls, keys) == (
        0,
        "127.0.0.1",
        ("localhost:8001",),
        ["one", "two"],
    )


START = ["serve", "--triton-url", "localhost:8001", "--port", "0"]


def test_key_is_generated_once_and_kept_in_the_data_folder(served, capsys, tmp_path):
    """The videos of a key would be hidden after a restart with another."""
    assert run([*START, "--data-path", "data"]) == 0
    first = capsys.readouterr().err
    assert run([*START, "--data-path", "data"]) == 0
    (_, _, (key,)), (_, _, again) = served
    file = tmp_path / "data" / KEY_FILE
    assert (again, file.read_text()) == ([key], key)
    assert (len(key) > 30, stat.S_IMODE(file.stat().st_mode)) == (True, 0o600)
    assert f"API key, generated and kept in {file}: {key}" in first
    assert key not in capsys.readouterr().err


def test_key_without_a_data_folder_is_generated_for_the_run(capsys):
    with serve.logging_to_stderr("text", quiet=True, verbose=False):
        keys = api_keys(AccessGroup(), {}, None)
    (key,) = keys.values
    assert (key in capsys.readouterr().err, keys.in_shell) == (True, "$KEY")


def test_key_that_cannot_be_kept(tmp_path):
    with pytest.raises(OutputError, match=r"the API key cannot be kept in .*; set TRITON_VIDEO"):
        api_keys(AccessGroup(), {}, tmp_path / "none")


@pytest.mark.parametrize(
    ("access", "environment", "header"),
    [
        ({"auth": False}, {}, "(without API keys)"),
        ({}, {KEYS_VARIABLE: "a,b"}, '-H "Authorization: Bearer ${TRITON_VIDEO_API_KEYS%%,*}"'),
        ({}, {}, "-H \"Authorization: Bearer $(cat '{folder}/api-key')\""),
    ],
)
def test_ready_line_names_the_key_as_a_shell_reads_it(tmp_path, info, access, environment, header):
    folder = tmp_path / "a folder"
    folder.mkdir()
    keys = api_keys(AccessGroup(**access), environment, folder)
    line = serve.ready_line("http://127.0.0.1:30010", keys, info)
    assert line.startswith("ready at http://127.0.0.1:30010 (")
    assert header.replace("{folder}", str(folder)) in line
    assert "http://127.0.0.1:30010/v1/videos/sync" in line
    assert not any(key in line for key in keys.values if len(key) > 1)


def test_ready_line_of_an_image_model_sends_one(info):
    model = info.model_copy(update={"image": "required"})
    assert "-F input_reference=@image.png" in serve.ready_line("http://x", ApiKeys([]), model)
    assert "input_reference" not in serve.ready_line("http://x", ApiKeys([]), info)


@pytest.mark.parametrize(
    ("host", "url"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "localhost"), ("::1", r"\[::1\]")]
)
def test_address_that_a_client_on_this_machine_can_call(host, url):
    with serve.listening(host, 0) as sock:
        assert re.fullmatch(rf"http://{url}:\d+", serve.address(sock))


def test_no_auth_needs_the_flag(served):
    assert run(["serve", "--triton-url", "localhost:8001", "--no-auth", "--port", "0"]) == 0
    assert served[0][2] == []


def test_keys_from_a_file(tmp_path):
    file = tmp_path / "keys"
    file.write_text("one\n\n two \n")
    keys = api_keys(AccessGroup(api_keys_file=file), {KEYS_VARIABLE: "other"}, None)
    assert keys == ApiKeys(["one", "two"], f"$(head -n 1 {file})")
    file.write_text("\n")
    with pytest.raises(InputError, match="contains no key"):
        api_keys(AccessGroup(api_keys_file=file), {}, None)
    with pytest.raises(InputError, match="cannot be read"):
        api_keys(AccessGroup(api_keys_file=tmp_path / "none"), {}, None)


def test_a_wrong_value_names_the_flag(served, capsys):
    assert run(["serve", "--port", "99999", "--max-queued", "0"]) == 2
    error = capsys.readouterr().err
    assert "port: should be 65535 or less" in error
    assert "max_queued: should be 1 or more" in error
    assert served == []


def test_a_config_file(served, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv(KEYS_VARIABLE, "k")
    file = tmp_path / "serve.yaml"
    file.write_text(
        "port: 0\ntriton_url: [gpu-1:8001, gpu-2:8001]\nmax_queued: 7\ndata_path: here\n"
    )
    assert run(["serve", "--config", str(file), "--max-queued", "8"]) == 0
    ((settings, urls, _),) = served
    assert (settings.port, settings.max_queued, urls) == (0, 8, ("gpu-1:8001", "gpu-2:8001"))
    file.write_text("port: 0\nprompt: a\nmax_queud: 7\nlease_s: 0\n")
    assert run(["serve", "--config", str(file)]) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"triton-video: prompt: unknown key in {file}, line 2; did you mean port?",
        f"triton-video: max_queud: unknown key in {file}, line 3; did you mean max_queued?",
        f"triton-video: lease_s: should be 1 or more, not 0 (in {file}, line 4)",
    ]


def test_secret_file_errors_are_reported_with_the_others(served, capsys, monkeypatch):
    monkeypatch.delenv(WEBHOOK_VARIABLE, raising=False)
    flags = [
        "--port",
        "x",
        "--api-keys-file",
        "/no/keys",
        "--webhook-url",
        "https://receiver.example",
        "--prt=1",
    ]
    assert run(["serve", *flags]) == 2
    fields = [
        line.removeprefix("triton-video: ").partition(":")[0]
        for line in capsys.readouterr().err.splitlines()
    ]
    expected = [
        "no such option --prt; did you mean --port?",
        "port",
        "api_keys_file",
        "webhook_secret_file",
    ]
    assert (fields, served) == (expected, [])


def test_port_in_use(served, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv(KEYS_VARIABLE, "k")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert (
            run(
                [
                    "serve",
                    "--triton-url",
                    "127.0.0.1:1",
                    "--port",
                    str(port),
                    "--data-path",
                    str(tmp_path),
                ]
            )
            == 4
        )
    assert served == []
    assert f"cannot listen on 127.0.0.1:{port}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "exit_code", "sentence"),
    [
        (
            ["--database-url", "mysql://u:secret@h/d"],
            2,
            "database_url: should be postgresql://... or sqlite:///PATH",
        ),
        (["--store-url", "s3://u:secret@h/d"], 2, "store_url: should be s3://BUCKET/PREFIX"),
        (
            ["--database-url", "postgresql://u:secret@127.0.0.1:1/d"],
            4,
            "the job database cannot be used: ",
        ),
        (
            ["--database-url", "sqlite:////proc/none/jobs"],
            4,
            "the job database cannot be used: unable to open",
        ),
        (["--store-url", "file:///proc/none"], 4, "the video store cannot be used: "),
        (["--data-path", "/proc/none"], 2, "data_path: cannot be used: No such file or directory"),
        (
            ["--data-path", "~nobody-here/x"],
            2,
            "data_path: ~nobody-here/x names the home folder of no known user",
        ),
    ],
)
def test_unusable_database_or_store(served, capsys, caplog, flags, exit_code, sentence):
    """Told before a Triton is started, in a sentence that repeats no password."""
    assert (
        run(["serve", "--triton-url", "localhost:8001", "--no-auth", "--port", "0", *flags])
        == exit_code
    )
    error = capsys.readouterr().err
    assert error.startswith(f"triton-video: {sentence}")
    assert error.count("\n") == 1
    assert "secret" not in error
    assert (served, caplog.messages) == ([], [])


def test_data_path_in_the_home_folder(served, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert (
        run(
            [
                "serve",
                "--triton-url",
                "localhost:8001",
                "--no-auth",
                "--port",
                "0",
                "--data-path",
                "~/data",
            ]
        )
        == 0
    )
    assert served[0][0].data_path == tmp_path / "data"
    assert (tmp_path / "data" / "jobs.sqlite").is_file()


def test_responses_are_sent_without_delay():
    """A connection waits for no acknowledgement between the headers and the body of an answer."""
    with serve.listening("127.0.0.1", 0) as sock, socket.create_connection(sock.getsockname()):
        connection, _ = sock.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


SECRET = "whsec_c2VjcmV0c2VjcmV0c2VjcmV0"


def test_the_webhooks_secret(tmp_path):
    settings = WebhookSettings(webhook_url="https://receiver.example/hook")
    assert webhook_secret(settings, {WEBHOOK_VARIABLE: SECRET}) == SECRET
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n")
    assert webhook_secret(settings.model_copy(update={"webhook_secret_file": file}), {}) == SECRET
    assert webhook_secret(WebhookSettings(), {}) is None


@pytest.mark.parametrize(
    "secret",
    ["", "c2VjcmV0c2VjcmV0c2VjcmV0", "whsec_short", "whsec_c2VjcmV0", "whsec_!!!", "whsec_ä"],
)
def test_webhook_without_a_valid_secret(secret):
    with pytest.raises(
        InputError,
        match="webhook_secret_file: no valid secret in this file or in TRITON_VIDEO_WEBHOOK_SECRET",
    ) as caught:
        webhook_secret(
            WebhookSettings(webhook_url="https://receiver.example"), {WEBHOOK_VARIABLE: secret}
        )
    assert not secret or secret not in str(caught.value)


def test_http_webhook_has_to_be_allowed(served, capsys, monkeypatch):
    monkeypatch.setenv(WEBHOOK_VARIABLE, SECRET)
    flags = ["serve", "--triton-url", "localhost:8001", "--no-auth", "--port", "0", "--webhook-url"]
    assert run([*flags, "http://receiver.example"]) == 2
    assert "webhook_url: should be https://" in capsys.readouterr().err
    assert run([*flags, "ftp://receiver.example"]) == 2
    assert "webhook_url: should be https://HOST/PATH" in capsys.readouterr().err
    assert run([*flags, "http://receiver.example", "--webhook-allow-private"]) == 0


def test_limits_reach_the_server(served):
    flags = ["--max-frames", "81", "--max-cost", "0"]
    assert run(["serve", "--triton-url", "localhost:8001", "--port", "0", *flags]) == 0
    ((settings, _, _),) = served
    assert (settings.max_frames, settings.max_cost, settings.max_steps) == (81, 0, None)


@pytest.mark.parametrize(
    ("flags", "jobs"),
    [
        ([], 1),
        (["--batching-max-size", "8"], 9),
        (["--batching-max-size", "8", "--jobs-per-triton", "4"], 4),
        (["--batching-max-size", "64"], 65),
        (["--triton-url", "localhost:8001"], 1),
    ],
)
def test_a_triton_with_batches_gets_enough_jobs_to_fill_them(served, monkeypatch, flags, jobs):
    monkeypatch.setattr(serve, "_start_triton", lambda *_: None)
    assert run(["serve", "--port", "0", *flags]) == 0
    ((settings, _, _),) = served
    assert settings.jobs_per_triton == jobs


def test_limits_without_effect_are_refused(tmp_path, capsys):
    assert run(["triton", "--model-repository", str(tmp_path), "--max-steps", "9"]) == 2
    assert "max_steps: has no effect with --model-repository" in capsys.readouterr().err
