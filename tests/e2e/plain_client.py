"""A program that knows Triton and nothing of triton-video: streams one video from a server and
prints what came.

Usage: plain_client.py HOST:PORT PROMPT OUTPUT.mp4
"""

import json
import queue
import sys
from pathlib import Path

import numpy as np
import tritonclient.grpc as triton

url, prompt, output = sys.argv[1:]
client = triton.InferenceServerClient(url)
responses = queue.Queue()
client.start_stream(lambda result, error: responses.put((result, error)))
text = triton.InferInput("PROMPT", [1], "BYTES")
text.set_data_from_numpy(np.array([prompt.encode()], dtype=np.object_))
client.async_stream_infer("video", [text], request_id="plain-1", enable_empty_final_response=True)
stages, made = [], None
while True:
    try:
        result, error = responses.get(timeout=60)
    except queue.Empty:
        # or the interpreter would wait for the stream's thread for ever
        client.stop_stream(cancel_requests=True)
        sys.exit(f"nothing came for 60 s after {stages}")
    if error:
        sys.exit(str(error))
    if result.get_response().parameters["triton_final_response"].bool_param:
        break
    if (stage := result.as_numpy("STAGE")) is not None:
        stages.append([stage[0].decode(), *result.as_numpy("PROGRESS").tolist()])
    if (video := result.as_numpy("VIDEO")) is not None:
        Path(output).write_bytes(video[0])
        made = json.loads(result.as_numpy("RESULT")[0])
client.stop_stream()
print(json.dumps({"stages": stages, "made": made}))
