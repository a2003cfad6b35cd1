"""What a user of OpenAI's SDK for Python does, in any of its versions. Prints what came back, as
one JSON object.

Usage:
    SERVER=URL HASTY_SERVER=URL TEXT_SERVER=URL KEY=... LIST_KEY=... ALIAS=... FIELDS=JSON \\
        EXTRA=JSON EDIT=JSON story.py FOLDER
"""

import json
import os
import sys
import warnings
from pathlib import Path

import openai

warnings.simplefilter("ignore", DeprecationWarning)
folder = Path(sys.argv[1])
fields, extra, edit = (json.loads(os.environ[name]) for name in ("FIELDS", "EXTRA", "EDIT"))


def client(key, server=os.environ["SERVER"]):
    return openai.OpenAI(api_key=key, base_url=f"{server}/v1", max_retries=0)


def refusal(call, *args, **options):
    try:
        call(*args, **options)
    except openai.APIStatusError as error:
        return {
            "class": type(error).__name__, "status": error.status_code, "param": error.param,
            "code": error.code,
            "request_id": error.request_id,
        }  # fmt: skip


def pages(order):
    return [video.id for video in client(os.environ["LIST_KEY"]).videos.list(limit=10, order=order)]


videos = client(os.environ["KEY"]).videos
told = {"version": openai.__version__}
told["created"] = videos.create(**fields, extra_body=extra).to_dict()
told["made"] = videos.create_and_poll(**fields, extra_body=extra, poll_interval_ms=50).to_dict()
made = told["made"]["id"]
told["polled"] = videos.poll(told["created"]["id"]).to_dict()
told["retrieved"] = videos.retrieve(made).to_dict()
videos.download_content(made).write_to_file(folder / "video.mp4")
stills = client(os.environ["KEY"]).images.generate(
    prompt="a red circle", n=2, size="64x64", output_format="png", extra_body=extra
)
told["images"] = [image.b64_json for image in stills.data]
told["remixed"] = videos.remix(made, prompt="a blue square").to_dict()
told["named"] = videos.create(prompt="x", model=os.environ["ALIAS"]).to_dict()
told["model"] = client(os.environ["KEY"]).models.retrieve(os.environ["ALIAS"]).to_dict()
told["listed"] = {order: pages(order) for order in ("asc", "desc")}
told["deleted"] = videos.delete(made).to_dict()
hasty = client(os.environ["KEY"], os.environ["HASTY_SERVER"]).videos
texts = client(os.environ["KEY"], os.environ["TEXT_SERVER"]).videos
with (folder / "picture.png").open("rb") as picture:
    told["moved"] = videos.create_and_poll(
        prompt="x", input_reference=picture, poll_interval_ms=50
    ).to_dict()
with (folder / "video.mp4").open("rb") as video:
    edited = videos.edit(prompt="a blue circle", video=video, extra_body=edit)
with (folder / "video.mp4").open("rb") as video:
    extended = videos.extend(prompt="it stops", video=video, seconds="1", extra_body=extra)
told["edited"] = videos.poll(edited.id).to_dict()
told["extended"] = videos.poll(extended.id).to_dict()
told["failed"] = hasty.create_and_poll(
    prompt="x", extra_body={"num_inference_steps": 200}
).to_dict()
told["refused"] = {
    "size": refusal(videos.create, prompt="x", size="65x63"),
    "model": refusal(videos.create, prompt="x", model="sora-2"),
    "picture": refusal(texts.create, prompt="x", input_reference=folder / "picture.png"),
    "style": refusal(client(os.environ["KEY"]).images.generate, prompt="x", style="vivid"),
    "key": refusal(client("wrong").videos.list),
    "retrieve": refusal(videos.retrieve, made),
    "content": refusal(videos.download_content, made),
    "delete": refusal(videos.delete, made),
    "failed": refusal(hasty.download_content, told["failed"]["id"]),
}
print(json.dumps(told))
