"""One rank computes what diffusers computes, with the kernel that was chosen and without masks."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest
import torch

from pipeline.parallel import usp
from pipeline.parallel.attention import attend
from pipeline.parallel.backends import Kernel
from pipeline.parallel.mesh import Axis, Mesh
from pipeline.parallel.sharding import shard_transformer
from tests.pipeline.parallel.transformers import TRANSFORMERS, hunyuan_video, wan


@pytest.mark.parametrize("on_cpu", [False, True])
@pytest.mark.parametrize("name", TRANSFORMERS)
def test_one_rank_equals_diffusers(name: str, on_cpu: bool) -> None:
    model, inputs = TRANSFORMERS[name]()
    with torch.inference_mode():
        (expected,) = model(**inputs, return_dict=False)
        shard_transformer(model, Mesh(), on_cpu=on_cpu)
        (made,) = model(**inputs, return_dict=False)
    assert expected.std() > 0.1, "a flat output would hide mistakes"
    torch.testing.assert_close(made, expected, atol=1e-5, rtol=0)


def test_one_rank_rotates_in_half_precision_as_diffusers_does() -> None:
    model, inputs = wan(heads=4, batch=2)
    model, (latents, *others) = model.bfloat16(), inputs.values()
    given = dict(zip(inputs, (latents.bfloat16(), *others), strict=True))
    given["encoder_hidden_states"] = given["encoder_hidden_states"].bfloat16()
    with torch.inference_mode():
        (expected,) = model(**given, return_dict=False)
        shard_transformer(model, Mesh(), on_cpu=True)
        (made,) = model(**given, return_dict=False)
    # One rounding of a query to bfloat16 may differ, and the layers after it multiply that.
    torch.testing.assert_close(made, expected, atol=0.02, rtol=0.02)


def test_compiled_attention_has_no_complex_numbers() -> None:
    model, inputs = hunyuan_video((5,))
    with torch.inference_mode():
        (expected,) = model(**inputs, return_dict=False)
        shard_transformer(model, Mesh())
        with (
            patch.object(torch.compiler, "is_compiling", return_value=True),
            patch.object(torch, "complex", side_effect=AssertionError),
        ):
            (made,) = model(**inputs, return_dict=False)
    torch.testing.assert_close(made, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("lengths", "tokens", "masked"), [((5,), 5, False), ((7, 7), 7, False), ((5, 6), 6, True)]
)
def test_texts_are_cut_and_masked_only_if_lengths_differ(
    lengths: tuple[int, ...], tokens: int, masked: bool
) -> None:
    model, inputs = hunyuan_video(lengths)
    shard_transformer(model, Mesh())
    seen: list[tuple[int, bool]] = []

    def watched(query: torch.Tensor, *others: Any, **named: Any) -> torch.Tensor:
        seen.append((query.shape[1] - 45, others[2] is not None))
        return attend(query, *others, **named)

    with torch.inference_mode(), patch.object(usp, "attend", watched):
        model(**inputs, return_dict=False)

    assert seen == [(tokens, masked)] * 2  # a dual-stream and a single-stream block


def test_a_later_video_has_its_own_texts() -> None:
    model, inputs = hunyuan_video((5,))
    _, others = hunyuan_video((7,))
    with torch.inference_mode():
        (expected,) = model(**others, return_dict=False)
        shard_transformer(model, Mesh())
        model(**inputs, return_dict=False)
        (made,) = model(**others, return_dict=False)
    torch.testing.assert_close(made, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("kernel", "name"),
    [("cudnn", "_native_cudnn"), ("flash", "_native_flash"), ("flash3", "_flash_3"),
     ("sage", "sage"), ("native", None)],
)  # fmt: skip
def test_kernel_reaches_the_processors_of_diffusers(kernel: Kernel, name: str | None) -> None:
    model: Any = wan()[0]
    shard_transformer(model, Mesh(), kernel)
    for block in model.blocks:
        for attention in (block.attn1, block.attn2):
            chosen = attention.processor._attention_backend
            assert (chosen and chosen.value) == name


def test_kernel_reaches_joint_attention() -> None:
    model, inputs = hunyuan_video((5,))
    shard_transformer(model, Mesh(), "cudnn")
    seen: list[Kernel] = []

    def watched(query: torch.Tensor, *others: Any, kernel: Kernel) -> torch.Tensor:
        seen.append(kernel)
        return attend(query, *others)

    with torch.inference_mode(), patch.object(usp, "attend", watched):
        model(**inputs, return_dict=False)
    assert seen == ["cudnn"] * 2


def test_unknown_classes_run_on_one_rank_only() -> None:
    shard_transformer(torch.nn.Linear(2, 2), Mesh())
    with pytest.raises(TypeError, match="Linear cannot be sharded"):
        shard_transformer(torch.nn.Linear(2, 2), Mesh(sequence=Axis(size=2)))
