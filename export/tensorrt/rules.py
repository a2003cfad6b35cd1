"""Rules for what TensorRT rejects and tensorrt-rtx accepts: without them a check would promise too
much.
"""

from __future__ import annotations

from typing import Any


def broken(trt: Any, network: Any) -> list[str]:
    """Return a finding for each layer of the parsed ``network`` that TensorRT has no kernel for."""
    found: list[str] = []
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.type == trt.LayerType.RESIZE and layer.get_input(0).dtype == trt.DataType.BF16:
            found.append(
                f"{layer.name} (Resize): TensorRT has no Resize of bfloat16; "
                "cast to float32 around it"
            )
    return found
