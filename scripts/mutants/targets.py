"""The modules that decide, and the tests that are to notice a fault in each: few and quick."""

from __future__ import annotations

DIFFUSION = ("tests/pipeline/diffusion",)
LORA = ("tests/pipeline/lora",)
MEMORY = ("tests/pipeline/memory/test_plan.py", "tests/pipeline/memory/test_branches.py")
STORE = ("tests/proxy/jobs/test_store_rules.py",)

TARGETS: dict[str, tuple[str, ...]] = {
    "pipeline/diffusion/denoising.py": DIFFUSION,
    "pipeline/diffusion/guidance.py": DIFFUSION,
    "pipeline/diffusion/samples.py": DIFFUSION,
    "pipeline/diffusion/schedulers.py": DIFFUSION,
    "pipeline/diffusion/step_cache.py": DIFFUSION,
    "pipeline/families/step_cache/table.py": ("tests/pipeline/families/step_cache",),
    "pipeline/families/step_cache/option.py": ("tests/pipeline/families/step_cache",),
    "pipeline/families/inputs.py": ("tests/pipeline/families/test_inputs.py",),
    "pipeline/families/model.py": (
        "tests/pipeline/families/test_model.py",
        "tests/pipeline/families/test_inputs.py",
    ),
    "pipeline/families/lora.py": ("tests/pipeline/families/test_lora.py",),
    "pipeline/lora/adapter.py": LORA,
    "pipeline/lora/alphas.py": LORA,
    "pipeline/lora/keys.py": LORA,
    "pipeline/lora/layers.py": LORA,
    "pipeline/lora/sources.py": LORA,
    "pipeline/parallel/backends.py": ("tests/pipeline/parallel/test_backends.py",),
    "pipeline/parallel/layout.py": ("tests/pipeline/parallel/test_layout.py",),
    "pipeline/parallel/usp.py": ("tests/pipeline/parallel/test_usp_threads.py",),
    "pipeline/ranks/batch.py": ("tests/pipeline/ranks/test_batch.py",),
    "pipeline/ranks/group.py": ("tests/pipeline/ranks/test_group_limits.py",),
    "pipeline/ranks/tasks.py": ("tests/pipeline/ranks/test_tasks.py",),
    "pipeline/ranks/wire.py": (
        "tests/pipeline/ranks/test_wire.py",
        "tests/pipeline/ranks/test_wire_limits.py",
    ),
    "pipeline/triton/batches.py": (
        "tests/pipeline/triton/test_batches.py",
        "tests/pipeline/triton/test_batches_close.py",
    ),
    "pipeline/decoders/tiling.py": (
        "tests/pipeline/decoders/test_tiling.py",
        "tests/pipeline/decoders/test_fade.py",
    ),
    "pipeline/decoders/windows.py": ("tests/pipeline/decoders/test_window_cuts.py",),
    "pipeline/decoders/spool.py": ("tests/pipeline/decoders/test_spool_file.py",),
    "pipeline/decoders/clip.py": ("tests/pipeline/stages/test_input_files.py",),
    "pipeline/media/input_video.py": ("tests/pipeline/media/test_input_video.py",),
    "pipeline/memory/transformer.py": ("tests/pipeline/memory/test_working.py",),
    "pipeline/memory/vae.py": ("tests/pipeline/memory/test_working.py",),
    "pipeline/memory/plan.py": MEMORY,
    "pipeline/memory/fitting.py": MEMORY,
    "pipeline/memory/placement.py": MEMORY,
    "proxy/jobs/store.py": STORE,
    "proxy/jobs/leases.py": ("tests/proxy/jobs/test_leases.py",),
    "proxy/jobs/turns.py": STORE,
    "proxy/jobs/outbox.py": ("tests/proxy/jobs/test_outbox.py", *STORE),
    "proxy/creation.py": ("tests/proxy/test_creation.py", "tests/proxy/test_gateways.py"),
    "proxy/images.py": ("tests/proxy/routes/test_images.py",),
    "proxy/input_videos.py": ("tests/proxy/test_input_videos.py",),
    "proxy/links.py": ("tests/proxy/test_links.py",),
    "proxy/remixing.py": ("tests/proxy/test_gateways.py",),
    "proxy/sizes.py": ("tests/proxy/test_sizes.py",),
    "proxy/spellings.py": ("tests/proxy/test_spellings.py",),
    "proxy/keys.py": ("tests/proxy/test_keys.py",),
    "proxy/outbound.py": ("tests/proxy/test_outbound_limits.py", "tests/proxy/test_outbound.py"),
    "export/parity/limits.py": ("tests/export/parity/test_limits.py",),
    "export/cache.py": ("tests/export/test_cache.py",),
    "export/hashes.py": ("tests/export/test_hashes.py",),
    "export/atomic_dir.py": ("tests/export/test_atomic_dir.py",),
    "cli/runtime/keeper.py": ("tests/cli/runtime/test_keeper_program.py",),
}
