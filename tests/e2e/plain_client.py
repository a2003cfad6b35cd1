"""A program that knows Triton and nothing of triton-video: streams one video from a server and
prints what came.

Usage: plain_client.py HOST:PORT PROMPT OUTPUT.mp4
"""

import json
import queue
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as triton


def main(url: str, prompt: str, output: Path) -> None:
    # Without a block, grpcio closes the connection when the interpreter has ended its threads, and
    # once in a thousand runs waits for one of them for ever.
    with triton.InferenceServerClient(url) as client:
        stages, made = stream(client, prompt, output)
    print(json.dumps({"stages": stages, "made": made}))


def stream(
    client: triton.InferenceServerClient, prompt: str, output: Path
) -> tuple[list[list[Any]], Any]:
    """Write the video to ``output``; return the stages that were reported, and the result."""
    responses = queue.Queue()
    client.start_stream(lambda result, error: responses.put((result, error)))
    text = triton.InferInput("PROMPT", [1], "BYTES")
    text.set_data_from_numpy(np.array([prompt.encode()], dtype=np.object_))
    client.async_stream_infer(
        "video", [text], request_id="plain-1", enable_empty_final_response=True
    )
    stages, made = [], None
    while True:
        try:
            result, error = responses.get(timeout=60)
        except queue.Empty:
            client.stop_stream(cancel_requests=True)  # or its end would be waited for
            sys.exit(f"nothing came for 60 s after {stages}")
        if error:
            sys.exit(str(error))
        if result.get_response().parameters["triton_final_response"].bool_param:
            return stages, made
        if (stage := result.as_numpy("STAGE")) is not None:
            stages.append([stage[0].decode(), *result.as_numpy("PROGRESS").tolist()])
        if (video := result.as_numpy("VIDEO")) is not None:
            output.write_bytes(video[0])
            made = json.loads(result.as_numpy("RESULT")[0])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
