"""A real tritonserver: how it serves, and its errors."""

import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton

from cli.runtime.distribution import find_distribution
from cli.runtime.embedded import EmbeddedServer
from cli.runtime.keeper import temporary_folders
from pipeline.errors import ServerError
from tests.e2e.metrics import metrics_of

pytestmark = [pytest.mark.server, pytest.mark.usefixtures("temp_root")]


def double(server: EmbeddedServer, value: float) -> float:
    with triton.InferenceServerClient(server.grpc_url) as client:
        tensor = triton.InferInput("IN", [1], "FP32").set_data_from_numpy(
            np.array([value], np.float32)
        )
        result = client.infer("echo", [tensor])
    assert result is not None
    return float(np.asarray(result.as_numpy("OUT"))[0])


def start_error(repository: Path, **options) -> ServerError:
    with pytest.raises(ServerError) as caught, EmbeddedServer(repository, **options):
        pass
    return caught.value


def test_server_serves_and_leaves_nothing_behind(repository, temp_root, nothing_left_of):
    messages: list[str] = []
    with EmbeddedServer(repository, on_progress=messages.append) as server:
        pid, work_dir = server.pid, server.log_path.parent
        assert double(server, 21) == 42
        assert "nv_inference_count" in metrics_of(server)
        assert "successfully loaded 'echo'" in server.log_path.read_text()
        assert server.died() is None
    assert messages == ["loading echo (1/1)"]
    assert server.died() == "tritonserver was stopped"
    nothing_left_of(pid, work_dir)
    assert list(temp_root.iterdir()) == []


def test_folder_of_the_python_backend_is_removed_and_no_other(repository):
    """It is in /tmp, whatever TMPDIR says, beside those of other servers."""
    with EmbeddedServer(repository) as other:
        with EmbeddedServer(repository) as server:
            (folder,), (of_other,) = map(temporary_folders, (server.pid, other.pid))
            assert folder.is_dir()
            server.restart()
            assert not folder.exists()
            (folder,) = temporary_folders(server.pid)
        assert not folder.exists()
        assert of_other.is_dir()


def test_an_exception_in_the_block_stops_it(repository, nothing_left_of):
    seen: list[tuple[int, Path]] = []

    def use() -> None:
        with EmbeddedServer(repository) as server:
            seen.append((server.pid, server.log_path.parent))
            raise KeyError

    with pytest.raises(KeyError):
        use()
    nothing_left_of(*seen[0])


def test_models_see_the_packages_and_only_needed_variables(add_model, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "no")
    model = """
import os, sys, pipeline
class TritonPythonModel:
    def initialize(self, args):
        variables = [os.environ.get(name) for name in ("OMP_NUM_THREADS", "AWS_SECRET_ACCESS_KEY")]
        raise ValueError(f"{sys.prefix} {variables}")
"""
    assert f"ValueError: {sys.prefix} ['3', None]" in str(start_error(add_model(model=model)))


def test_stages_see_the_gpus_that_are_hidden_from_the_server(add_model, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
    model = """
import os
from pathlib import Path
from pipeline.triton import adapter
class TritonPythonModel:
    def initialize(self, args):
        of_server = Path(f"/proc/{os.getppid()}/environ").read_text().split(chr(0))
        own = os.environ["CUDA_VISIBLE_DEVICES"]
        raise ValueError(f"{own} {'CUDA_VISIBLE_DEVICES=' in of_server}")
"""
    assert "ValueError: 1,0 True" in str(start_error(add_model(model=model)))


def test_failing_initialize_is_reported_with_its_message(add_model, temp_root):
    model = """
class TritonPythonModel:
    def initialize(self, args):
        raise FileNotFoundError("no such file: '/nowhere/model.safetensors'")
"""
    add_model()
    error = start_error(add_model("dit", model=model))
    reason = "model 'dit': FileNotFoundError: no such file: '/nowhere/model.safetensors'"
    assert str(error) == f"tritonserver did not start: {reason}"
    assert error.details is not None
    assert "model.py(4): initialize" in error.details
    assert list(temp_root.iterdir()) == []


def test_a_broken_config_names_its_line(add_model):
    error = str(start_error(add_model(config='backend: "python"\nmax_bach_size: 0\n')))
    assert error.startswith("tritonserver did not start: model 'echo': config.pbtxt:2:")
    assert 'no field named "max_bach_size"' in error


def test_a_missing_model_file_does_not_hang(add_model):
    assert "Python model file not found in '" in str(start_error(add_model(model=None)))


def test_a_model_that_dies_while_loading(add_model):
    model = "import os\nclass TritonPythonModel:\n    def initialize(self, args): os._exit(3)\n"
    assert str(start_error(add_model(model=model))).endswith(
        "model 'echo': its python process ended while it was loading"
    )


def test_a_stub_whose_libraries_are_missing_does_not_hang(repository, tmp_path, monkeypatch):
    reason = "error while loading shared libraries: libpython3.so: cannot open shared object file"
    stub = tmp_path / "triton_python_backend_stub"
    stub.write_text(f'#!/bin/sh\necho "$0: {reason}" >&2\nexit 127\n')
    stub.chmod(0o755)
    found = find_distribution()
    broken = replace(found, backend_files=(*found.backend_files[:-1], stub))
    monkeypatch.setattr("cli.runtime.embedded.find_distribution", lambda: broken)
    assert (
        str(start_error(repository, startup_timeout_s=5)) == f"tritonserver did not start: {reason}"
    )


def test_a_model_that_takes_too_long(add_model):
    model = (
        "import time\nclass TritonPythonModel:\n    def initialize(self, args): time.sleep(60)\n"
    )
    error = start_error(add_model(model=model), startup_timeout_s=0.8)
    assert str(error) == (
        "tritonserver did not start: still loading echo (0 of 1 are loaded) after 0.8 s; "
        "--startup-timeout-s allows more"
    )


def test_a_missing_repository(tmp_path):
    assert "there is no model repository at" in str(start_error(tmp_path / "nowhere"))
    assert "contains a model" in str(start_error(tmp_path))


def test_temporary_folder_that_cannot_be_created(repository, temp_root, monkeypatch):
    monkeypatch.setattr("cli.runtime.places._ELSEWHERE", ())
    monkeypatch.setattr("tempfile.tempdir", str(temp_root / "missing"))
    assert str(start_error(repository)).startswith(
        "TMPDIR: no folder for temporary files can be used"
    )


@pytest.mark.parametrize("name", ["a b", "Bücher", "x" * 80])
def test_temporary_folder_unfit_for_sockets_is_skipped(repository, temp_root, monkeypatch, name):
    (temp_root / name).mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temp_root / name))
    with EmbeddedServer(repository) as server:
        assert server.log_path.parent.parent == Path("/tmp")
        assert double(server, 1) == 2


def test_two_can_start_at_once(repository):
    def run(value: float) -> float:
        with EmbeddedServer(repository) as server:
            return double(server, value)

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(run, [1, 2])) == [2, 4]


@pytest.mark.parametrize("state", ["running", "stopped", "killed"])
def test_a_restart_keeps_the_address(repository, temp_root, state, eventually):
    with EmbeddedServer(repository) as server:
        pid, url = server.pid, server.grpc_url
        if state != "running":
            os.kill(pid, signal.SIGSTOP if state == "stopped" else signal.SIGKILL)
            assert state == "stopped" or eventually(server.died)
        server.restart()
        assert (server.pid != pid, server.grpc_url) == (True, url)
        assert double(server, 2) == 4
        assert len(list(temp_root.iterdir())) == 1
    assert list(temp_root.iterdir()) == []


def test_repository_path_may_have_spaces(add_model, temp_root, tmp_path):
    strange = tmp_path / "a $b" / "Büch'er"
    strange.parent.mkdir()
    add_model().rename(strange)
    with EmbeddedServer(strange) as server:
        assert double(server, 2) == 4


def test_files_are_private_to_the_user(repository, temp_root):
    with EmbeddedServer(repository) as server:
        double(server, 1)
        work_dir = server.log_path.parent
        for path in (work_dir, *work_dir.rglob("*")):
            assert path.is_symlink() or path.stat().st_mode & 0o077 == 0, path


def test_its_death_is_explained(repository, temp_root, nothing_left_of, eventually):
    with EmbeddedServer(repository) as server:
        pid, work_dir = server.pid, server.log_path.parent
        os.kill(pid, signal.SIGKILL)
        assert eventually(server.died)
        assert str(server.died()).startswith("tritonserver was killed (SIGKILL")
        # The log stays for whoever asks why; stubs and shared memory are gone at once.
        assert [path.name for path in temp_root.iterdir()] == [work_dir.name]
    nothing_left_of(pid, work_dir)
