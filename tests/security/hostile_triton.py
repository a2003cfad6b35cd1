"""A gRPC server that speaks Triton's protocol and means harm; it listens on loopback."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from pipeline.ensemble.tensors import MODEL_PARAMETER

Response: Any = service_pb2.ModelStreamInferResponse
WORKERS = 8


@dataclass
class Behaviour:
    """What the server answers. ``stream`` is called anew for each request."""

    model: str = ""
    stream: Callable[[Any], Iterable[Any]] = lambda _: ()
    control: bytes = b"{}"
    requests: list[str] = field(default_factory=list)


class Hostile(service_pb2_grpc.GRPCInferenceServiceServicer):
    def __init__(self, behaviour: Behaviour):
        self._behaviour = behaviour

    def ModelReady(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
        return service_pb2.ModelReadyResponse(ready=True)

    def ModelConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
        answer = service_pb2.ModelConfigResponse()
        answer.config.parameters[MODEL_PARAMETER].string_value = self._behaviour.model
        return answer

    def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        return tensors(ANSWER=("BYTES", [1], blob(self._behaviour.control))).infer_response

    def ModelStreamInfer(self, request_iterator: Any, context: Any) -> Iterator[Any]:  # noqa: N802
        self._behaviour.requests.append(next(request_iterator).id)
        yield from self._behaviour.stream(context)


@contextmanager
def hostile(behaviour: Behaviour) -> Iterator[str]:
    """The address of such a server, ``host:port``."""
    sizes = [(f"grpc.max_{way}_message_length", -1) for way in ("send", "receive")]
    server = grpc.server(ThreadPoolExecutor(WORKERS), options=sizes)
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Hostile(behaviour), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait(10)


def blob(*values: bytes) -> bytes:
    """Byte strings as the content of a BYTES tensor."""
    return b"".join(struct.pack("<I", len(value)) + value for value in values)


def tensors(**outputs: tuple[str, list[int], bytes]) -> Any:
    """A response with these tensors: name -> datatype, shape, content."""
    answer = Response()
    for name, (datatype, shape, content) in outputs.items():
        answer.infer_response.outputs.add(name=name, datatype=datatype, shape=shape)
        answer.infer_response.raw_output_contents.append(content)
    return answer


def progress(step: int, total: int, stage: bytes = b"denoise") -> Any:
    return tensors(
        STAGE=("BYTES", [1], blob(stage)), PROGRESS=("INT32", [2], struct.pack("<ii", step, total))
    )


MADE = {
    "height": 16, "width": 16, "num_frames": 1, "fps": 8, "num_inference_steps": 1,
    "guidance_scale": 1.0, "flow_shift": None, "seed": 1,
}  # fmt: skip
MP4 = b"\0\0\0\x18ftypisom" + bytes(64)
WEBP = b"RIFF\x10\0\0\0WEBP" + bytes(16)


def video(**replaced: tuple[str, list[int], bytes]) -> Any:
    """A response that ends a request well, but for the tensors in ``replaced``."""
    outputs = {"VIDEO": MP4, "THUMBNAIL": WEBP, "SPRITESHEET": WEBP, "RESULT": made()}
    whole = {name: ("BYTES", [1], blob(value)) for name, value in outputs.items()}
    return tensors(**{**whole, **replaced})


def made(**replaced: object) -> bytes:
    return json.dumps({**MADE, **replaced}).encode()
