"""The sizes in the memory plan match what torch allocates, and a plan that does not fit is adapted
or refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

from pipeline.byte_sizes import human_size
from pipeline.checkpoint.folder import Checkpoint
from pipeline.errors import InputError
from pipeline.families import SamplingParams, VideoRequest
from pipeline.families.lora import LoraFile
from pipeline.memory import processes
from pipeline.memory.capacity import Capacity
from pipeline.memory.fitting import fitted
from pipeline.memory.placement import HOST, Engine
from pipeline.memory.plan import GPU_MARGIN, TORCH_VAE_COPIES, MemoryPlan, plan_of
from pipeline.memory.transformer import denoising, tokens_of
from pipeline.memory.vae import decoding
from pipeline.memory.weights import weights_of
from pipeline.parallel.layout import BATCHED_GUIDANCE_TOKENS, Layout
from pipeline.settings import StageSettings, VaeConfig
from tests.conftest import SHAPES

CHECKPOINT = Checkpoint.open(SHAPES)
ROOMY = Capacity(1 << 40, (1 << 40,))


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


def test_denoising_memory_follows_the_tokens() -> None:
    small, large = request(num_frames=5), request(num_frames=17)
    assert tokens_of(CHECKPOINT.info, large) * 2 == tokens_of(CHECKPOINT.info, small) * 5
    assert denoising(CHECKPOINT, large, itemsize=2) < denoising(CHECKPOINT, large)
    assert denoising(CHECKPOINT, small) < denoising(CHECKPOINT, large) / 2


def test_both_branches_of_a_small_video_count_as_one_batch() -> None:
    guided, alone = request(guidance_scale=4.0), request(guidance_scale=1.0)
    separate = Layout(branches=2)
    assert denoising(CHECKPOINT, alone) < denoising(CHECKPOINT, guided)
    assert denoising(CHECKPOINT, guided, separate) == denoising(CHECKPOINT, alone)
    large = {"num_frames": 161, "width": 256, "height": 256}
    guided, alone = (request(guidance_scale=scale, **large) for scale in (4.0, 1.0))
    assert tokens_of(CHECKPOINT.info, alone) > BATCHED_GUIDANCE_TOKENS
    assert denoising(CHECKPOINT, alone) == denoising(CHECKPOINT, guided)


def test_decoding_memory_follows_the_engine() -> None:
    def decoded(frames: int, engine: Engine = "onnxruntime", size: int = 4, **values: Any) -> int:
        wanted = request(num_frames=frames, width=128, height=128)
        return decoding(CHECKPOINT, settings(**values), wanted, engine, size)

    tiles = VaeConfig(tile_sample_min_height=64, tile_sample_min_width=64)
    assert decoded(17) == decoded(65)
    assert decoded(17, vae_tiling=True, vae_config=tiles) * 4 == decoded(17)
    whole = [decoded(frames, vae_engine="tile") for frames in (17, 65, 113)]
    assert whole[1] - whole[0] == whole[2] - whole[1] > 0
    half = decoded(17, "torch", 2, vae_engine="torch")
    assert half < decoded(17, "torch", 4, vae_engine="torch") < 2 * half < 2 * decoded(17)


def test_ranks_on_a_cpu_share_one_copy_of_the_weights() -> None:
    one, four = (
        plan_of(CHECKPOINT, settings(ulysses_degree=degree), request(), Capacity(1 << 40)).total(
            HOST
        )
        for degree in (1, 4)
    )
    sharded = denoising(CHECKPOINT, request(), Layout(ulysses=4))
    assert four - one == 3 * processes.TORCH + 4 * sharded - denoising(CHECKPOINT, request())


@pytest.mark.parametrize(
    ("offload", "on_gpu", "on_host"),
    [("none", "count", 0), ("expert", "count", 1), ("layer", "by_block", 1)],
)
def test_offloaded_weights_are_counted_on_the_host(offload: str, on_gpu: str, on_host: int) -> None:
    weights = weights_of(CHECKPOINT, "transformer")
    gpus = Capacity(1 << 40, (1 << 40, 1 << 40))
    plan = plan_of(CHECKPOINT, settings(offload=offload, ulysses_degree=2), request(), gpus)
    kept = {(n.place, n.what): n.size for n in plan.needs if n.part in ("dit", "dit rank 0")}
    assert kept["GPU 0", "weights"] == 4 * getattr(weights, on_gpu)
    assert kept.get((HOST, "weights"), 0) == on_host * 4 * weights.count
    assert kept["GPU 0", "process"] == processes.CUDA_CONTEXT + processes.NCCL
    assert plan.short() is None


def test_loras_that_may_be_loaded_are_counted_on_each_rank() -> None:
    loras = [LoraFile(name=f"l{size}", path="-", elements=size) for size in (1000, 3000, 2000)]
    values = {"loras": loras, "max_loras": 2, "ulysses_degree": 2}
    gpus = Capacity(1 << 40, (1 << 40, 1 << 40))
    plan = plan_of(CHECKPOINT, settings(**values), request(), gpus)
    assert [(n.place, n.size) for n in plan.needs if n.what == "LoRAs"] == [
        ("GPU 0", 4 * 5000),
        ("GPU 1", 4 * 5000),
    ]
    merged = plan_of(CHECKPOINT, settings(**values, lora_fixed=True), request(), gpus)
    assert not [need for need in merged.needs if need.what == "LoRAs"]


def test_activations_scale_with_the_batch_size() -> None:
    one, three = (
        plan_of(CHECKPOINT, settings(batching_max_size=size), request(), ROOMY) for size in (1, 3)
    )
    more = denoising(CHECKPOINT, request(), batch=3) - denoising(CHECKPOINT, request())
    assert three.total("GPU 0") - one.total("GPU 0") == pytest.approx(GPU_MARGIN * more, abs=2)


def test_a_torch_vae_is_on_the_first_gpu() -> None:
    plan = plan_of(CHECKPOINT, settings(vae_engine="torch"), request(), ROOMY)
    needs = {(n.place, n.what) for n in plan.needs if n.part == "vae_decoder"}
    assert needs == {
        (HOST, "process"), (HOST, "loading"),
        ("GPU 0", "process"), ("GPU 0", "weights"), ("GPU 0", "frames"),
    }  # fmt: skip


def test_torch_needs_more_for_a_vae_on_a_cpu() -> None:
    asked, wanted = settings(vae_engine="torch"), request(width=128, height=128)
    cpu, gpu = (plan_of(CHECKPOINT, asked, wanted, c) for c in (Capacity(1 << 40), ROOMY))
    weights = weights_on("GPU 0", gpu)["vae_decoder"]
    assert weights_on(HOST, cpu)["vae_decoder"] == TORCH_VAE_COPIES * weights
    frames = [
        decoding(CHECKPOINT, asked, wanted, "torch", 4, on_cpu=on_cpu) for on_cpu in (False, True)
    ]
    assert frames[0] < frames[1]


def test_onnx_runtime_holds_weights_in_fp16_as_fp32() -> None:
    whole, half = (
        weights_on(HOST, plan_of(CHECKPOINT, settings(text_encoder_precisions=given), request(),
                                 ROOMY))["text_encoder"]
        for given in ((), ("fp16",))
    )  # fmt: skip
    assert whole == half == 4 * weights_of(CHECKPOINT, "text_encoder").count


def test_one_video_needs_the_working_memory_of_one_stage_at_a_time() -> None:
    wanted, cpu = request(), Capacity(1 << 40)
    many = plan_of(CHECKPOINT, settings(), wanted, cpu)
    one = plan_of(CHECKPOINT, settings(), wanted, cpu, overlapping=False)
    assert many.needs == one.needs
    working = [need.size for need in one.needs if need.working]
    assert many.total(HOST) - one.total(HOST) == sum(working) - max(working)
    ranks = settings(ulysses_degree=2)
    shared = plan_of(CHECKPOINT, ranks, wanted, cpu, overlapping=False)
    held = sum(need.size for need in shared.needs if not need.working)
    both = sum(need.size for need in shared.needs if need.working and need.stage == "dit")
    encoder = sum(need.size for need in shared.needs if need.working and need.stage != "dit")
    assert shared.total(HOST) == held + max(both, encoder) or both < encoder


def test_ranks_of_a_text_encoder_hold_equal_shares() -> None:
    plan = plan_of(
        CHECKPOINT, settings(tp_size=2), request(), Capacity(1 << 40, (1 << 40, 1 << 40))
    )
    half = weights_of(CHECKPOINT, "text_encoder").count * 4 // 2
    assert weights_on("GPU 0", plan)["text_encoder rank 0"] == half
    assert weights_on("GPU 1", plan)["text_encoder rank 1"] == half
    with pytest.raises(InputError, match="tp_size: 2 ranks need a GPU each, and there are 1 here"):
        fitted(CHECKPOINT, settings(tp_size=2), request(), ROOMY)


def test_every_vae_device_has_its_own_decoder() -> None:
    one, two = (
        plan_of(CHECKPOINT, settings(vae_devices=devices, vae_tiling=True), request(), ROOMY).needs
        for devices in (1, 2)
    )
    assert [need.part for need in two[len(one) - 2 :]] == [
        f"vae_decoder rank {index}" for index in (0, 0, 1, 1)
    ]
    assert [need.size for need in two[len(one) - 2 :]] == 2 * [need.size for need in one[-2:]]


def test_image_encoders_are_on_the_host(build_family: Callable[[str], Path]) -> None:
    checkpoint = Checkpoint.open(build_family("wan2.1-i2v"))
    sizes = weights_on(HOST, plan_of(checkpoint, settings(), request(checkpoint), ROOMY))
    assert list(sizes) == ["text_encoder", "image_encoder", "vae_encoder", "vae_decoder"]
    assert sizes["vae_encoder"] + sizes["vae_decoder"] == 4 * weights_of(checkpoint, "vae").count


def test_the_table_lists_every_need_and_every_place() -> None:
    plan = plan_of(CHECKPOINT, settings(), request(), Capacity(20_000_000_000, (10_000_000_000,)))
    table = plan.table()
    assert len(table) == len(plan.needs) + 2
    assert table[1].split() == ["the", "host", "text_encoder", "weights", "1.6", "MB"]
    assert table[-1].endswith("of 10.0 GB free on GPU 0")
    assert plan.sentence().startswith("needs ")
    assert "free on the host, " in plan.sentence()


def test_the_devices_list_the_engine_and_place_of_every_part() -> None:
    asked = settings(vae_engine="torch", vae_precision="bf16", ulysses_degree=2)
    plan = plan_of(CHECKPOINT, asked, request(), Capacity(None, (1 << 40, 1 << 40)))
    encoder, _, dit, decoder = (line.split("  ") for line in plan.devices()[1:])
    assert [cell.strip() for cell in encoder if cell][:4] == [
        "text_encoder", "onnxruntime", "fp32", "the host"
    ]  # fmt: skip
    assert [cell.strip() for cell in dit if cell][:4] == ["dit", "torch", "fp32", "GPU 0, GPU 1"]
    on_the_gpu = sum(n.size for n in plan.needs if (n.stage, n.place) == ("vae_decoder", "GPU 0"))
    assert [cell.strip() for cell in decoder if cell] == [
        "vae_decoder", "torch", "bf16", "GPU 0", human_size(on_the_gpu)
    ]  # fmt: skip


@pytest.mark.parametrize("overlapping", [True, False])
def test_an_offloaded_encoder_is_on_the_gpu_only_while_it_works(*, overlapping: bool) -> None:
    def planned(*, offload: bool) -> MemoryPlan:
        asked = settings(encoder_engine="torch", text_encoder_offload=offload)
        return plan_of(CHECKPOINT, asked, request(), ROOMY, overlapping=overlapping)

    held, offloaded = planned(offload=False), planned(offload=True)
    weights = 4 * weights_of(CHECKPOINT, "text_encoder").count
    assert weights_on(HOST, offloaded)["text_encoder"] == weights
    assert "text_encoder" not in weights_on(HOST, held)
    encoder, *others = (
        sum(n.size for n in offloaded.needs if n.place == "GPU 0" and n.working and n.stage == part)
        for part in ("text_encoder", "dit", "vae_encoder")
    )
    saved = 0 if overlapping else min(encoder, sum(others))
    assert held.total("GPU 0") - offloaded.total("GPU 0") == saved > -1


def test_engines_of_tensorrt_are_on_gpus() -> None:
    plan = plan_of(CHECKPOINT, settings(flavour="tensorrt"), request(), ROOMY)
    assert {placed.engine: placed.places for placed in plan.placements} == {
        "tensorrt": ("GPU 0",), "torch": ("GPU 0",)
    }  # fmt: skip
    torch = plan_of(CHECKPOINT, settings(vae_engine="torch"), request(), ROOMY)
    frames = [next(n.size for n in p.needs if n.what == "frames") for p in (plan, torch)]
    assert frames[0] > 2 * frames[1] / GPU_MARGIN


def weights_on(place: str, plan: MemoryPlan) -> dict[str, int]:
    """Return the weights of each part on a place."""
    return {n.part: n.size for n in plan.needs if (n.place, n.what) == (place, "weights")}


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
    assert re.match(
        r"model_path: needs (\S+ MB) on GPU 0 \(dit rank 0 \1\), where", str(caught.value)
    )
    assert re.search(r"GPU 0 +dit rank 0 +activations", caught.value.details or "")
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
    with pytest.raises(InputError, match=r"^model_path: needs .* on "):
        fitted(checkpoint, asked, wanted, host)
