"""The table of `bench/parity.py`, made of an export of a tiny checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.parity import HEADER, main


@pytest.mark.export
def test_bench_prints_a_line_for_each_graph(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # it sets both, and this process goes on
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    page = tmp_path / "page.md"
    chosen = ["--checkpoints", "wan2.1-t2v", "--parts", "text_encoder", "--precisions", "bf16"]

    assert main([*chosen, "--threads", "1", "--markdown", str(page)]) == 0

    line = capsys.readouterr().out.splitlines()[-1].split()
    assert line[:5] == ["wan2.1-t2v", "text_encoder", "UMT5EncoderModel", "bf16", "model"]
    assert 0.99 < float(line[7]) < 1
    assert line[-1] == "yes"
    assert f"| {' | '.join(HEADER)} |" in page.read_text()
