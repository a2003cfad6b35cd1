"""Log-sum-exp and merged blocks match PyTorch's attention to all keys at once."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pipeline.parallel.attention import aligned_bias, attend, attend_block, target_of
from pipeline.parallel.backends import Kernel, Target

MASK = torch.tensor([[True] * 3 + [False] * 2, [True] * 5])


def drawn(seed: int, length: int) -> torch.Tensor:
    return torch.randn(2, length, 3, 8, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("mask", [None, MASK])
def test_log_sum_exp_matches_that_of_the_scores(mask: torch.Tensor | None) -> None:
    query, key, value = drawn(1, 4), drawn(2, 5), drawn(3, 5)
    scores = torch.einsum("bshd,bkhd->bhsk", query, key) / 8**0.5
    if mask is not None:
        scores = scores.masked_fill(~mask[:, None, None], float("-inf"))

    part = attend_block(query, key, value, mask)

    torch.testing.assert_close(part.lse, scores.logsumexp(-1))
    torch.testing.assert_close(part.out.transpose(1, 2), attend(query, key, value, mask))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_merged_blocks_equal_attention_to_all_keys(dtype: torch.dtype) -> None:
    query, key, value = (drawn(seed, 7).to(dtype) for seed in (1, 2, 3))
    # Scores of one block far above the other's: merging must not overflow.
    key[:, :2] *= 20

    one, *others = (
        attend_block(query, key[:, part], value[:, part])
        for part in (slice(2), slice(2, 3), slice(3, 7))
    )
    for other in others:
        one = one.merge(other)

    expected = attend(query.float(), key.float(), value.float())
    torch.testing.assert_close(
        one.out.transpose(1, 2), expected, atol=2e-6 if dtype == torch.float32 else 0.02, rtol=0
    )


@pytest.mark.parametrize("keys", [5, 8, 513])
def test_strides_of_the_bias_fit_the_gpu_kernel(keys: int) -> None:
    mask = torch.arange(keys) < torch.tensor([[3], [keys]])
    query = torch.zeros(2, 3, 4, 8)

    bias = aligned_bias(mask, query)

    assert bias.stride(-1) == 1
    assert [stride % 8 for stride in bias.stride()[:-1]] == [0, 0, 0]
    assert bias.storage_offset() == 0
    assert bias.shape == (2, 3, 4, keys)
    assert torch.equal(bias == 0, mask[:, None, None].expand_as(bias))
    assert torch.equal(bias.isneginf(), ~mask[:, None, None].expand_as(bias))


@pytest.mark.parametrize(
    ("kernel", "dtype", "mask"),
    [
        ("cudnn", torch.bfloat16, None),
        ("cudnn", torch.bfloat16, MASK),
        ("flash", torch.bfloat16, None),
        ("native", torch.bfloat16, None),
        ("native", torch.float32, None),
        ("native", torch.float32, MASK),
    ],
)
def test_results_of_every_gpu_kernel_have_the_same_shapes(
    kernel: Kernel, dtype: torch.dtype, mask: torch.Tensor | None
) -> None:
    """PyTorch knows the shapes of its kernels' results without a GPU, on the meta device."""
    query, key = (torch.empty(2, length, 3, 8, dtype=dtype, device="meta") for length in (4, 5))

    part = attend_block(query, key, key, None if mask is None else mask.to("meta"), kernel)

    assert (part.out.shape, part.out.dtype) == ((2, 3, 4, 8), torch.float32)
    assert (part.lse.shape, part.lse.dtype) == ((2, 3, 4), torch.float32)


PACKAGES = {"flash3": ("flash_attn_interface", "flash_attn_func"),
            "sage": ("sageattention", "sageattn")}  # fmt: skip


@pytest.mark.parametrize("kernel", PACKAGES)
def test_packages_get_their_own_layout(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in with the signature of the package's function computes in PyTorch."""
    query, key, value = drawn(1, 4), drawn(2, 5), drawn(3, 5)

    def flash_attn_func(q: Any, k: Any, v: Any, *, return_attn_probs: bool = False) -> Any:
        assert return_attn_probs
        part = attend_block(q, k, v)
        return part.out.transpose(1, 2), part.lse

    def sageattn(q: Any, k: Any, v: Any, tensor_layout: str = "HND", *, return_lse: bool) -> Any:
        assert tensor_layout == "NHD"
        assert return_lse
        return flash_attn_func(q, k, v, return_attn_probs=True)

    module, name = PACKAGES[kernel]
    stand_in = SimpleNamespace(flash_attn_func=flash_attn_func, sageattn=sageattn)
    monkeypatch.setitem(sys.modules, module, stand_in)
    assert hasattr(stand_in, name)

    part, expected = attend_block(query, key, value, kernel=kernel), attend_block(query, key, value)
    torch.testing.assert_close(part.out, expected.out)
    torch.testing.assert_close(part.lse, expected.lse)
    torch.testing.assert_close(attend(query, key, value, kernel=kernel), attend(query, key, value))


def test_cpu_has_no_packages() -> None:
    found = target_of(torch.device("cpu"), torch.float32, 12)
    assert found == Target(gpu=False, half=False, head=12, packages=frozenset())
    assert target_of(torch.device("cpu"), torch.bfloat16, 12).half


KERNELS: tuple[Kernel, ...] = ("native", "cudnn", "flash")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("mask", [None, MASK])
def test_gpu_kernels_match_the_cpu(
    dtype: torch.dtype, mask: torch.Tensor | None, kernel: Kernel
) -> None:
    if dtype == torch.float32 and kernel != "native":
        pytest.skip("computes in half precision only")
    query, key, value = drawn(1, 4), drawn(2, 5), drawn(3, 5)
    expected = attend_block(query, key, value, mask)

    part = attend_block(
        *(tensor.to("cuda", dtype) for tensor in (query, key, value)),
        None if mask is None else mask.cuda(),
        kernel,
    )

    tolerance = 1e-4 if dtype == torch.float32 else 0.03
    torch.testing.assert_close(part.lse.cpu(), expected.lse, atol=tolerance, rtol=0)
    torch.testing.assert_close(part.out.cpu(), expected.out, atol=tolerance, rtol=0)
