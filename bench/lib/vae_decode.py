"""The parts of `bench/vae.py` that need a process of their own: ``python bench/lib/vae_decode.py
ACTION FOLDER JSON``.

``vae`` makes a random VAE, ``export`` its graphs, and ``decode`` measures one engine. The last line
is the result.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

Decode = Callable[[np.ndarray], Iterator[np.ndarray]]


def make_vae(folder: Path, config: dict[str, Any], bundled: str) -> dict[str, str]:
    """The folder of a component: a new one, unless ``config`` is empty."""
    if not config:
        return {"folder": bundled}
    import torch
    from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan

    torch.manual_seed(0)
    AutoencoderKLWan(**config).save_pretrained(folder / "vae")
    return {"folder": str(folder / "vae")}


def export(folder: Path, vae: str, engine: str, bundled: str) -> dict[str, str]:
    from export.capture import capture
    from export.components import Bounds, component_for
    from pipeline.checkpoint.folder import Checkpoint
    from pipeline.families.parts import VAE_DECODER

    component = component_for(VAE_DECODER, "AutoencoderKLWan")
    model = component.model_class().from_pretrained(vae, local_files_only=True).eval()
    for graph in component.graphs(model, Bounds(Checkpoint.open(Path(bundled)).info, engine)):  # pyright: ignore[reportArgumentType]
        capture(graph, folder / f"{graph.name}.onnx")
    return {}


def measure(folder: Path, asked: dict[str, Any]) -> dict[str, Any]:
    config = json.loads((Path(asked["vae"]) / "config.json").read_text())
    frames = (asked["frames"] - 1) // config["scale_factor_temporal"] + 1
    side = asked["side"] // config["scale_factor_spatial"]
    latents = np.random.default_rng(0).standard_normal(
        (1, config["z_dim"], frames, side, side), np.float32
    )
    decode = _diffusers(asked) if asked["name"] == "diffusers" else _ours(folder, asked)
    expected = folder / f"expected-{asked['side']}-{asked['frames']}.npy"
    memory = _growth(lambda: _drop(decode(latents)))
    seconds: list[float] = []
    for _ in range(asked["repeats"]):
        began = time.perf_counter()
        _drop(decode(latents))
        seconds.append(time.perf_counter() - began)
    return {"seconds": seconds, "memory": memory, "error": _error(expected, decode(latents))}


def _ours(folder: Path, asked: dict[str, Any]) -> Decode:
    from pipeline.decoders import open_decoder
    from pipeline.settings import StageSettings

    settings = StageSettings.model_validate(
        {
            "checkpoint": str(Path(asked["vae"]).parent),
            "threads": asked["threads"],
            "vae_engine": asked["name"].partition(" ")[0],
            "vae_precision": asked["precision"],
            "vae_tiling": asked["tiled"],
            "vae_config": {
                "tile_sample_min_height": asked["tile"],
                "tile_sample_min_width": asked["tile"],
            },
        }
    )
    return open_decoder(folder, settings).decode


def _diffusers(asked: dict[str, Any]) -> Decode:
    """As ``WanPipeline`` does it: all frames at once."""
    import torch
    from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan

    torch.set_num_threads(asked["threads"])
    vae = AutoencoderKLWan.from_pretrained(
        asked["vae"], dtype=torch.float32, local_files_only=True
    ).eval()
    mean, std = (
        torch.tensor(vae.config[name]).view(1, -1, 1, 1, 1)
        for name in ("latents_mean", "latents_std")
    )

    def decode(latents: np.ndarray) -> Iterator[np.ndarray]:
        with torch.inference_mode():
            (video,) = vae.decode(torch.from_numpy(latents) * std + mean, return_dict=False)
        yield (video[0].permute(1, 2, 3, 0) / 2 + 0.5).numpy()

    return decode


def _drop(chunks: Iterator[np.ndarray]) -> None:
    for _ in chunks:
        pass


def _error(expected: Path, chunks: Iterator[np.ndarray]) -> float:
    """The largest difference; the first engine of a case makes what is expected."""
    frames = np.concatenate(list(chunks))
    if not expected.exists():
        np.save(expected, frames)
    return float(np.abs(frames - np.load(expected)).max())


def _growth(work: Callable[[], None]) -> int:
    """By how many bytes the resident memory of this process grew at most; proc_pid_status(5)."""
    Path("/proc/self/clear_refs").write_text("5")
    before = _resident("VmRSS")
    work()
    return _resident("VmHWM") - before


def _resident(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{name}:"))


def main(action: str, folder: Path, asked: dict[str, Any]) -> None:
    actions: dict[str, Callable[[], dict[str, Any]]] = {
        "vae": lambda: make_vae(folder, **asked),
        "export": lambda: export(folder, **asked),
        "decode": lambda: measure(folder, asked),
    }
    print(json.dumps(actions[action]()))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3]))
