"""USP on one GPU over real NCCL: four ranks beside one. A check of the code, not of its speed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from bench.gpu.results import report
from bench.gpu.sizes import PUBLISHED, TINY, Sizes

RANKS = 4
TIMEOUT_S = 130


def run(work: Path, sizes: Sizes) -> None:
    """Start the ranks. Each claims to be another host (``NCCL_HOSTID``), so that NCCL takes
    sockets.
    """
    store = work / f"store-{os.getpid()}"
    processes = []
    for rank in range(RANKS):
        variables = {
            "NCCL_HOSTID": f"host{rank}",
            "NCCL_SOCKET_IFNAME": "lo",
            "NCCL_IB_DISABLE": "1",
            "NCCL_DEBUG": "WARN",
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        size = "tiny" if sizes.tiny else "published"
        # As a module: this folder on the path would hide the package triton from torch.
        module = ["-P", "-m", "bench.gpu.sections.usp"]
        command = [sys.executable, *module, str(rank), str(store), size]
        environment = {**os.environ, **variables}
        processes.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE))
    outputs = [process.communicate(timeout=TIMEOUT_S)[0].decode() for process in processes]
    print("\n".join(outputs), flush=True)
    codes = [process.returncode for process in processes]
    report("USP over NCCL, 4 ranks on one GPU", "FAILED" if any(codes) else "ok", note=str(codes))


def rank_main(rank: int, store: Path, sizes: Sizes) -> None:
    """One rank: a sharded transformer beside a whole one, in every layout of four."""
    import torch
    import torch.distributed as dist
    from diffusers import WanTransformer3DModel

    from bench.gpu.checkpoints import random_model
    from bench.gpu.measuring import DEVICE, GPU
    from pipeline.parallel.layout import Layout
    from pipeline.parallel.mesh import Mesh
    from pipeline.parallel.sharding import shard_transformer

    if GPU:
        torch.cuda.set_device(0)
    meeting = dist.FileStore(str(store), RANKS)
    backend = "nccl" if GPU else "gloo"
    dist.init_process_group(backend, store=meeting, rank=rank, world_size=RANKS)
    config = {**sizes.transformer, "num_layers": 3}
    # 1035 tokens at the published size: four ranks do not divide them.
    grid = (2, 10, 14) if sizes.tiny else (3, 30, 46)
    limits = {torch.float32: 1e-4, **({torch.bfloat16: 3e-2} if GPU else {})}
    for layout in (Layout(4, 1), Layout(2, 2), Layout(1, 4)):
        mesh = Mesh.create(layout)
        for dtype, limit in limits.items():
            model = random_model(WanTransformer3DModel, dtype, **config)
            torch.manual_seed(5)
            inputs = {
                "hidden_states": torch.randn(1, 16, *grid).to(DEVICE, dtype),
                "timestep": torch.tensor([500.0]).to(DEVICE),
                "encoder_hidden_states": torch.randn(1, 512, sizes.text_dim).to(DEVICE, dtype),
                "return_dict": False,
            }
            with torch.inference_mode():
                expected = model(**inputs)[0]
                shard_transformer(model, mesh)
                made = model(**inputs)[0]
            off = ((made - expected).float().norm() / expected.float().norm()).item()
            if rank == 0:
                name = f"USP {layout.ulysses} x {layout.ring} {dtype} beside one rank"
                report(name, off, "relative", "ok" if off < limit else "WRONG")
            if not off < limit:
                sys.exit(f"rank {rank}: off by {off}, at most {limit} is right")
    dist.destroy_process_group()


if __name__ == "__main__":
    rank_main(int(sys.argv[1]), Path(sys.argv[2]), TINY if sys.argv[3] == "tiny" else PUBLISHED)
