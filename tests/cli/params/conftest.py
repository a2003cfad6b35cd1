"""Config files for the tests of parameters."""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def config(tmp_path):
    """Writes a config file: text as it is, anything else as JSON."""

    def write(content, name="config.json"):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write
