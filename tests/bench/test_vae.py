"""The benchmark of the VAE's engines, whole, on a VAE of a few channels."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.lib.vae_cases import Case
from bench.vae import main

TINY = {"base_dim": 4, "z_dim": 4, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 0}
ONES = {"latents_mean": [0.0] * 4, "latents_std": [1.0] * 4}


@pytest.mark.slow
def test_bench_prints_a_line_for_each_engine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "vae.md"
    case = Case("tiny", clips=[(48, 5)], tile=32, config={**TINY, **ONES})

    assert (
        main(
            ["--only", "torch", "--repeats", "1", "--threads", "1", "--markdown", str(page)], [case]
        )
        == 0
    )

    lines = capsys.readouterr().out.splitlines()[2:]
    assert [line.split("48x48x5")[1].split("  ")[1] for line in lines] == [
        "diffusers",
        "torch",
        "torch bf16",
    ]
    assert page.read_text().count("48x48x5") == 3
    exact, rough = (float(line.split()[-1]) for line in lines[1:])
    assert exact < 1e-5 < rough < 0.1


def test_an_unknown_engine_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--only", "onnx"])
    assert "onnx: choose from chunked,tile,torch" in capsys.readouterr().err
