"""Log-sum-exp and merged blocks match PyTorch's attention to all keys at once."""

from __future__ import annotations

import pytest
import torch

from pipeline.parallel.attention import aligned_bias, attend, attend_block

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


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("mask", [None, MASK])
def test_gpu_kernels_match_the_cpu(dtype: torch.dtype, mask: torch.Tensor | None) -> None:
    query, key, value = drawn(1, 4), drawn(2, 5), drawn(3, 5)
    expected = attend_block(query, key, value, mask)

    part = attend_block(
        *(tensor.to("cuda", dtype) for tensor in (query, key, value)),
        None if mask is None else mask.cuda(),
    )

    tolerance = 1e-4 if dtype == torch.float32 else 0.03
    torch.testing.assert_close(part.lse.cpu(), expected.lse, atol=tolerance, rtol=0)
    torch.testing.assert_close(part.out.cpu(), expected.out, atol=tolerance, rtol=0)
