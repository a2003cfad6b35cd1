"""What a container is asked for, and how it answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.runtime.preparing import Request, main
from pipeline.settings import StageSettings


@pytest.fixture
def asked(checkpoint: Path) -> Request:
    return Request(
        str(checkpoint), "wan-of-a-hub", StageSettings(checkpoint=str(checkpoint)).model_dump_json()
    )


def test_preparing_prints_the_repository_last(asked, monkeypatch, capsys):
    def prepare(checkpoint, settings, on_progress):
        assert (checkpoint.info.name, settings.checkpoint) == ("wan-of-a-hub", asked.checkpoint)
        on_progress("vae: reading")
        return Path("/cache/1")

    monkeypatch.setattr("export.repository.prepare_repository", prepare)
    assert main(asked.text()) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines == [{"progress": "vae: reading"}, {"repository": "/cache/1"}]


@pytest.mark.parametrize("change", [{"settings": '{"new_in_2": 1}'}, {"more": "x"}])
def test_request_of_another_version_is_reported(asked, capsys, change):
    assert main(json.dumps({**json.loads(asked.text()), **change})) == 4
    answer = json.loads(capsys.readouterr().out)
    assert answer["type"] == "ServerError"
    assert "another version" in answer["error"]


def test_error_is_printed_with_its_class(asked, capsys):
    Path(asked.checkpoint, "model_index.json").unlink()
    assert main(asked.text()) == 3
    answer = json.loads(capsys.readouterr().out)
    assert answer["type"] == "CheckpointError"
    assert "model_index.json" in answer["error"]
