"""The sizes in the memory plan match what torch allocates, and a plan that does not fit is adapted
or refused.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

from pipeline.checkpoint.folder import Checkpoint
from pipeline.errors import InputError
from pipeline.families import SamplingParams, VideoRequest
from pipeline.memory.capacity import Capacity
from pipeline.memory.fitting import fitted
from pipeline.memory.plan import HOST, RANK_ON_GPU, RANK_ON_HOST, plan_of
from pipeline.memory.weights import weights_of
from pipeline.memory.working import decoding, denoising, tokens_of, wan_caches
from pipeline.settings import StageSettings, VaeConfig
from tests.conftest import SHAPES

CHECKPOINT = Checkpoint.open(SHAPES)
ROOMY = Capacity(1 << 40, (1 << 40,))
STATISTICS = {"latents_mean": [0.0] * 4, "latents_std": [1.0] * 4}
PATCHES = {"patch_size": 2, "in_channels": 12, "out_channels": 12}


def request(checkpoint: Checkpoint = CHECKPOINT, **values: Any) -> VideoRequest:
    image = (32, 48) if checkpoint.info.takes_image else None
    return checkpoint.info.resolve(SamplingParams(prompt="-", **values), image=image)


def settings(**values: Any) -> StageSettings:
    return StageSettings(checkpoint="-", **values)


def test_weights_match_the_parameter_count_of_torch() -> None:
    model = WanTransformer3DModel.from_pretrained(SHAPES / "transformer")
    assert isinstance(model, WanTransformer3DModel)
    counted = weights_of(CHECKPOINT, "transformer")
    block = sum(p.numel() for p in model.blocks[0].parameters())
    assert counted.count == sum(p.numel() for p in model.parameters())
    assert (counted.in_blocks, counted.largest_block) == (len(model.blocks) * block, block)
    assert counted.by_block == counted.count - (len(model.blocks) - 2) * block


@pytest.mark.parametrize(
    "config",
    [
        {"base_dim": 8},
        {"base_dim": 16, "dim_mult": [1, 2, 4], "temperal_downsample": [True, True], **PATCHES},
        {"base_dim": 8, "decoder_base_dim": 12, "is_residual": True, **PATCHES},
    ],
    ids=["Wan 2.1", "bundled", "Wan 2.2"],
)
def test_decoder_caches_match_those_of_diffusers(config: dict[str, Any]) -> None:
    vae: Any = AutoencoderKLWan(z_dim=4, **STATISTICS, **config).eval()
    caches: list[Any] = [None] * vae._cached_conv_counts["decoder"]
    with torch.no_grad():
        for index in range(3):
            vae.decoder(
                torch.randn(1, 4, 1, 4, 6), feat_cache=caches, feat_idx=[0], first_chunk=index == 0
            )
    assert sum(cache.numel() for cache in caches if cache is not None) == wan_caches(
        vae.config, 4 * 6
    )


def test_the_caches_of_wan_21_at_720p_take_8_7_gb() -> None:
    config = {"base_dim": 96, "temperal_downsample": [False, True, True]}
    assert round(wan_caches(config, 90 * 160) * 4 / 1e9, 1) == 8.7


def test_denoising_memory_follows_the_tokens() -> None:
    small, large = request(num_frames=5), request(num_frames=17)
    assert tokens_of(CHECKPOINT.info, large) * 2 == tokens_of(CHECKPOINT.info, small) * 5
    whole, shard = (denoising(CHECKPOINT, large, shards, 4) for shards in (1, 2))
    assert shard < whole < 2 * shard, "latents are whole on every rank"
    assert denoising(CHECKPOINT, large, 1, 2) < whole
    assert denoising(CHECKPOINT, small, 1, 4) < whole / 2


def test_decoding_memory_follows_the_engine() -> None:
    short, long = (
        request(num_frames=17, width=128, height=128),
        request(num_frames=65, width=128, height=128),
    )
    tiles = settings(
        vae_tiling=True, vae_config=VaeConfig(tile_sample_min_height=64, tile_sample_min_width=64)
    )
    assert decoding(CHECKPOINT, short, settings()) == decoding(CHECKPOINT, long, settings())
    assert decoding(CHECKPOINT, short, tiles) * 4 == decoding(CHECKPOINT, short, settings())
    whole = settings(vae_engine="tile")
    assert decoding(CHECKPOINT, long, whole) * 17 == decoding(CHECKPOINT, short, whole) * 65
    half = settings(vae_engine="torch", vae_precision="bf16")
    assert decoding(CHECKPOINT, short, half) * 2 == decoding(CHECKPOINT, short, settings())


def test_on_a_cpu_every_rank_has_its_own_copy_on_the_host() -> None:
    one, four = (
        plan_of(CHECKPOINT, settings(ulysses_degree=degree), request(), Capacity(1 << 40)).total(
            HOST
        )
        for degree in (1, 4)
    )
    copy = RANK_ON_HOST + 4 * weights_of(CHECKPOINT, "transformer").count
    assert 3 * copy < four - one < 3 * copy + denoising(CHECKPOINT, request(), 1, 4)


@pytest.mark.parametrize(
    ("offload", "on_gpu", "on_host"),
    [("none", "count", 0), ("expert", "count", 1), ("layer", "by_block", 1)],
)
def test_offloaded_weights_are_counted_on_the_host(offload: str, on_gpu: str, on_host: int) -> None:
    weights = weights_of(CHECKPOINT, "transformer")
    plan = plan_of(CHECKPOINT, settings(offload=offload), request(), ROOMY)
    kept = {(need.place, need.what): need.size for need in plan.needs if need.part == "dit rank 0"}
    assert kept["GPU 0", "weights"] == 4 * getattr(weights, on_gpu)
    assert kept.get((HOST, "weights"), 0) == on_host * 4 * weights.count
    assert kept["GPU 0", "process"] == RANK_ON_GPU
    assert plan.short() is None


def test_activations_scale_with_the_batch_size() -> None:
    one, three = (
        plan_of(CHECKPOINT, settings(batching_max_size=size), request(), ROOMY) for size in (1, 3)
    )
    assert three.total("GPU 0") - one.total("GPU 0") == 2 * denoising(CHECKPOINT, request(), 1, 4)


def test_a_torch_vae_is_on_the_first_gpu() -> None:
    places = {
        need.place
        for need in plan_of(CHECKPOINT, settings(vae_engine="torch"), request(), ROOMY).needs
        if need.part == "vae_decoder"
    }
    assert places == {"GPU 0"}


def test_text_encoder_memory_follows_its_precision() -> None:
    whole, half = (
        plan_of(CHECKPOINT, settings(text_encoder_precisions=precisions), request(), ROOMY).needs[0]
        for precisions in ((), ("fp16",))
    )
    assert (whole.part, whole.size) == ("text_encoder", 2 * half.size)


def test_ranks_of_a_text_encoder_hold_equal_shares() -> None:
    plan = plan_of(
        CHECKPOINT, settings(tp_size=2), request(), Capacity(1 << 40, (1 << 40, 1 << 40))
    )
    encoders = [need for need in plan.needs if need.part.startswith("text_encoder")]
    half = weights_of(CHECKPOINT, "text_encoder").count * 4 // 2
    assert {need.place: need.size for need in encoders if need.what == "weights"} == {
        "GPU 0": half,
        "GPU 1": half,
    }
    with pytest.raises(InputError, match="tp_size: 2 ranks need a GPU each, and there are 1 here"):
        fitted(CHECKPOINT, settings(tp_size=2), request(), ROOMY)


def test_every_vae_device_has_its_own_decoder() -> None:
    one, two = (
        plan_of(CHECKPOINT, settings(vae_devices=devices, vae_tiling=True), request(), ROOMY).needs
        for devices in (1, 2)
    )
    assert two[: len(one)] == one
    assert two[len(one) :] == one[-2:]


def test_image_encoders_are_on_the_host(build_family: Callable[[str], Path]) -> None:
    checkpoint = Checkpoint.open(build_family("wan2.1-i2v"))
    needs = plan_of(checkpoint, settings(), request(checkpoint), ROOMY).needs
    sizes = {need.part: need.size for need in needs if (need.place, need.what) == (HOST, "weights")}
    assert list(sizes) == ["text_encoder", "image_encoder", "vae_encoder", "vae_decoder"]
    assert sizes["vae_encoder"] + sizes["vae_decoder"] == 4 * weights_of(checkpoint, "vae").count


def test_the_table_lists_every_need_and_every_place() -> None:
    plan = plan_of(CHECKPOINT, settings(), request(), Capacity(20_000_000_000, (10_000_000_000,)))
    table = plan.table()
    assert len(table) == len(plan.needs) + 2
    assert table[0].split() == ["the", "host", "text_encoder", "weights", "1.6", "MB"]
    assert table[-1].endswith("of 10.0 GB free on GPU 0")
    assert plan.sentence().startswith("at least ")
    assert "free on the host, " in plan.sentence()


def short_of(
    checkpoint: Checkpoint, place: str, by: int, **values: Any
) -> tuple[StageSettings, VideoRequest, Capacity]:
    """Return settings, request and a capacity that is ``by`` bytes too small in ``place`` and ample
    elsewhere.
    """
    asked, wanted = settings(**values), request(checkpoint)
    room = plan_of(checkpoint, asked, wanted, ROOMY).total(place) - by
    return (
        asked,
        wanted,
        Capacity(room, ROOMY.gpus) if place == HOST else Capacity(ROOMY.host, (room,)),
    )


def test_the_error_suggests_flags_that_make_the_plan_fit() -> None:
    with pytest.raises(InputError) as caught:
        fitted(CHECKPOINT, *short_of(CHECKPOINT, "GPU 0", 1))
    assert str(caught.value).startswith(
        "model_path: needs at least 543.1 MB on GPU 0 (dit rank 0 543.1 MB), where"
    )
    assert str(caught.value).endswith(
        "; with --precision bf16 or with --dit-layerwise-offload it would fit"
    )


def test_the_error_suggests_flags_that_help_only_together() -> None:
    both = plan_of(CHECKPOINT, settings(precision="bf16", offload="layer"), request(), ROOMY).total(
        "GPU 0"
    )
    with pytest.raises(
        InputError, match=r"; with --precision bf16 --dit-layerwise-offload it would fit$"
    ):
        fitted(CHECKPOINT, settings(), request(), Capacity(1 << 40, (both,)))


def test_the_error_states_when_no_flag_helps() -> None:
    with pytest.raises(
        InputError,
        match=r"no flag makes it fit: ask for less, or take a smaller model or another mach",
    ):
        fitted(CHECKPOINT, settings(), request(), Capacity(1 << 20))


def test_unknown_capacity_is_not_refused() -> None:
    asked = settings()
    assert fitted(CHECKPOINT, asked, request(), Capacity(None))[0] is asked


def test_more_ranks_than_gpus_are_refused() -> None:
    with pytest.raises(
        InputError, match=r"^num_gpus: 2 ranks need a GPU each, and there are 1 here$"
    ):
        fitted(CHECKPOINT, settings(ulysses_degree=2), request(), ROOMY)


def test_experts_are_swapped_when_memory_is_short(
    build_family: Callable[[str], Path],
) -> None:
    checkpoint = Checkpoint.open(build_family("wan2.2-t2v"))
    asked, wanted, capacity = short_of(checkpoint, "GPU 0", 1)
    swapping, plan = fitted(checkpoint, asked, wanted, capacity)
    assert swapping.offload == "expert"
    assert plan.short() is None
    assert fitted(checkpoint, asked, wanted, ROOMY)[0] is asked, (
        "with room for both nothing changes"
    )
    host = Capacity(plan.total(HOST) - 1, capacity.gpus)
    with pytest.raises(InputError, match=r"^model_path: needs at least .* on "):
        fitted(checkpoint, asked, wanted, host)
