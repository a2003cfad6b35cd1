"""The benchmark of exports, and that memory does not follow the weights: with 181 MiB of them,
in a child.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import export as bench
from bench.lib.exporting import components
from bench.lib.exporting.measure import Export
from export.components import component_for
from export.weights import mapped_model, stored_tensors
from pipeline.families.parts import TEXT_ENCODER


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Export]:
    """What the benchmark measures, collected."""
    found: list[Export] = []
    real = bench.export

    def export(*arguments: object) -> Export:
        found.append(real(*arguments))
        return found[-1]

    monkeypatch.setattr(bench, "export", export)
    return found


@pytest.mark.slow
def test_memory_does_not_follow_the_weights(
    measured: list[Export], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    assert (
        bench.main(
            ["--small", "--threads", "1", "--folder", str(tmp_path), "--markdown", str(page)]
        )
        == 0
    )

    (export,) = measured
    weights = 181 << 20
    assert export.anonymous - export.before < 0.5 * weights, (
        "what the exporter itself takes is less than half"
    )
    assert export.resident - export.resident_before < weights
    assert export.written < 0.1 * weights, "the rest lies where it was"
    assert "UMT5, 1 layer" in capsys.readouterr().out
    assert "| 181 MiB bf16 | triton-video |" in page.read_text()
    assert list(tmp_path.iterdir()) == [page], "the folder of the weights is gone"


def test_missed_goal_exits_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    case = bench.Case(
        "it", "part", "class", "bf16", lambda folder, dtype: 100, 100, plain=False, goal=0.4
    )
    monkeypatch.setattr(bench, "CASES", {"umt5-xxl": case})
    for resident, code in ((39, 0), (41, 1)):

        def export(
            case: object, side: str, folder: Path, output: Path, resident: int = resident
        ) -> Export:
            output.mkdir()
            return Export(1.0, 1, 2, 3, resident, 4)

        monkeypatch.setattr(bench, "_export", export)
        assert bench.main(["--only", "umt5-xxl"]) == code
    assert capsys.readouterr().out.rstrip().endswith("NO")


def test_too_little_disk_is_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    huge = bench.Case(
        "it",
        "part",
        "class",
        "bf16",
        lambda *_: pytest.fail("made"),
        1 << 60,
        plain=False,
        goal=0.4,
    )
    monkeypatch.setattr(bench, "CASES", {"umt5-xxl": huge})
    assert bench.main(["--only", "umt5-xxl"]) == 0
    assert "it is skipped: it needs" in capsys.readouterr().err


def test_random_components_are_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(components, "SHARD_BYTES", 4000)
    sizes = {
        "vocab_size": 30,
        "d_model": 16,
        "d_kv": 4,
        "d_ff": 20,
        "num_layers": 1,
        "num_heads": 3,
    }
    nbytes = components.umt5(tmp_path / "umt5", "bfloat16", **sizes)
    stored = stored_tensors(tmp_path / "umt5")
    assert sum(tensor.nbytes for tensor in stored.values()) == nbytes
    assert len({tensor.file for tensor in stored.values()}) > 1
    umt5 = component_for(TEXT_ENCODER, "UMT5EncoderModel")
    model = mapped_model(umt5, tmp_path / "umt5", stored["shared.weight"].torch_dtype)
    assert 0 < float(model.shared.weight.float().std()) < 0.1
