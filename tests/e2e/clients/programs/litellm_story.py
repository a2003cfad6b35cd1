"""What a user of LiteLLM does, with one of its providers. Prints what came back, as one JSON
object.

Usage: SERVER=URL PROVIDER=NAME KEY=... litellm_story.py FOLDER
"""

import json
import os
import sys
import time
from pathlib import Path

import litellm  # pyright: ignore[reportMissingImports]
import openai

folder, provider = Path(sys.argv[1]), os.environ["PROVIDER"]
# This provider wants the base URL of OpenAI's clients, the other one takes both.
suffix = "/v1" if provider == "openai" else ""
server = {"api_base": os.environ["SERVER"] + suffix, "api_key": os.environ["KEY"]}


def ended(video):
    while True:
        seen = litellm.video_status(video_id=video.id, **server)
        if seen.status in ("completed", "failed"):
            return seen
        time.sleep(0.1)


def refusal(**change):
    try:
        litellm.video_generation(
            **{"model": f"{provider}/shapes", "prompt": "x", **server, **change}
        )
    except openai.APIError as error:
        return {"class": type(error).__name__, "message": str(error)}


created = litellm.video_generation(
    model=f"{provider}/shapes", prompt="a red circle moves right", seconds="1", size="64x64",
    user="somebody", extra_body={"seed": 7, "num_inference_steps": 2}, **server,
)  # fmt: skip
told = {"created": created.model_dump(), "made": ended(created).model_dump()}
(folder / "video.mp4").write_bytes(litellm.video_content(video_id=created.id, **server))
first = litellm.video_list(limit=1, custom_llm_provider=provider, **server)
remixed = litellm.video_remix(video_id=created.id, prompt="a blue square", **server)
told["listed"] = litellm.video_list(limit=2, custom_llm_provider=provider, **server)["data"]
after = litellm.video_list(after=remixed.id, limit=1, custom_llm_provider=provider, **server)
told["paged"] = [after["data"][0]["id"], first["data"][0]["id"]]
with (folder / "picture.png").open("rb") as picture:
    moved = litellm.video_generation(
        model=f"{provider}/shapes", prompt="x", input_reference=picture, **server
    )
told["moved"] = ended(moved).model_dump()
source = {"video_id": created.id, "custom_llm_provider": provider, **server}
edited = litellm.video_edit(
    prompt="a blue circle", extra_body={"strength": 0.5, "num_inference_steps": 2}, **source
)
told["edited"] = ended(edited).model_dump()
extended = litellm.video_extension(
    prompt="it stops", seconds="1", extra_body={"num_inference_steps": 2}, **source
)
told["extended"] = ended(extended).model_dump()
told["refused"] = {
    "size": refusal(size="65x63"),
    "model": refusal(model=f"{provider}/unknown"),
    "key": refusal(api_key="wrong"),
}
print(json.dumps(told))
