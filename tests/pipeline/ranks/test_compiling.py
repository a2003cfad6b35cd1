"""Compiled blocks compute what eager ones compute, with everything that hooks into them."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters

from pipeline.diffusion.step_cache import BlockStack
from pipeline.errors import InputError, ServerError
from pipeline.families.lora import LoraFile
from pipeline.parallel.mesh import Mesh
from pipeline.parallel.sharding import shard_transformer
from pipeline.ranks.compiling import Compiler, blocks_of
from pipeline.ranks.offload import ExpertSwapper, offload_layers
from pipeline.settings import StageSettings
from pipeline.system.child_environment import child_environment
from tests.pipeline.parallel.transformers import TRANSFORMERS, wan

CPU = torch.device("cpu")


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Compiler]:
    """Traces blocks, and runs what was traced without building kernels, which takes a minute."""
    monkeypatch.setenv("TRITON_VIDEO_CACHE", str(tmp_path / "cache"))
    torch._dynamo.reset()
    counters.clear()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    yield Compiler(CPU)
    torch._dynamo.reset()


def compiled(model: Any, compiler: Compiler) -> Any:
    compiler.compile(model, shard_transformer(model, Mesh()))
    return model


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_compiled_blocks_equal_eager_ones(name: str, compiler: Compiler) -> None:
    model, inputs = TRANSFORMERS[name]()
    with torch.inference_mode():
        (expected,) = model(**inputs, return_dict=False)
        (made,) = compiled(model, compiler)(**inputs, return_dict=False)
    torch.testing.assert_close(made, expected, atol=1e-5, rtol=0)
    assert compiler.seconds > 0


def test_blocks_of_one_class_are_compiled_once(compiler: Compiler) -> None:
    model, inputs = wan()
    model = compiled(model, compiler)
    assert len(list(blocks_of(model))) == 2
    with torch.inference_mode():
        model(**inputs, return_dict=False)
        first = compiler.seconds
        model(**inputs, return_dict=False)
    assert compiler.seconds == first
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]


@pytest.mark.parametrize("offload", ["layer", "expert"])
def test_offloaded_weights_are_used(offload: str, compiler: Compiler) -> None:
    model, inputs = wan()
    with torch.inference_mode():
        (expected,) = model(**inputs, return_dict=False)
    model = compiled(model, compiler)
    models: Any = [model]
    if offload == "layer":
        offload_layers(model, CPU)
    else:
        models = ExpertSwapper(models, torch.clone)
    with torch.inference_mode():
        for _ in range(2):
            (made,) = models[0](**inputs, return_dict=False)
            torch.testing.assert_close(made, expected, atol=1e-5, rtol=0)
            if offload == "expert":
                models.release()


def test_hooks_of_blocks_and_reused_steps_stay_outside(compiler: Compiler) -> None:
    model, inputs = wan()
    model = compiled(model, compiler)
    calls: list[int] = []
    _, last = blocks_of(model)
    last.register_forward_pre_hook(lambda _m, _a: calls.append(1))
    stack = BlockStack(model)
    with torch.inference_mode():
        with stack.recording() as recorded:
            (computed,) = model(**inputs, return_dict=False)
        assert calls == [1]
        with stack.reusing(recorded[0]):
            (reused,) = model(**inputs, return_dict=False)
    assert calls == [1]
    torch.testing.assert_close(reused, computed, atol=1e-5, rtol=0)


def test_kernels_are_kept_in_a_private_folder(compiler: Compiler, tmp_path: Path) -> None:
    del compiler
    folder = tmp_path / "cache" / "compiled"
    assert child_environment({})["TORCHINDUCTOR_CACHE_DIR"] == str(folder)  # of a rank
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_folder_that_cannot_be_written_is_reported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TRITON_VIDEO_CACHE", str(tmp_path / "file"))
    with pytest.raises(ServerError, match=r"^enable_torch_compile: cannot create .*/compiled: "):
        Compiler(CPU)


def test_a_machine_without_a_compiler_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(InputError, match=r"^enable_torch_compile: needs a compiler, and g\+\+ is"):
        Compiler(CPU)


def test_loras_that_requests_choose_are_refused() -> None:
    settings = StageSettings(
        checkpoint="-", enable_torch_compile=True, loras=(LoraFile(name="a", path="/a"),)
    )
    with pytest.raises(InputError, match=r"^enable_torch_compile: not available with LoRAs that"):
        settings.check_compile()
    settings.model_copy(update={"lora_fixed": True}).check_compile()
    settings.model_copy(update={"enable_torch_compile": False}).check_compile()
