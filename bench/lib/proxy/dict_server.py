"""Jobs in a dict, as the servers that lose them keep them: what durable jobs are measured beside.

python -m bench.lib.proxy.dict_server PORT
"""

from __future__ import annotations

import sys
import uuid
from typing import Any

import uvicorn
from fastapi import FastAPI, Form

app = FastAPI()
jobs: dict[str, dict[str, Any]] = {}


@app.post("/v1/videos")
async def create(prompt: str = Form()) -> dict[str, Any]:
    job = {
        "id": uuid.uuid4().hex,
        "object": "video",
        "status": "queued",
        "progress": 0,
        "prompt": prompt,
    }
    jobs[job["id"]] = job
    return job


@app.get("/v1/videos")
async def ready() -> dict[str, Any]:
    return {"data": []}


@app.get("/v1/videos/{video_id}")
async def retrieve(video_id: str) -> dict[str, Any]:
    return jobs[video_id]


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), log_level="warning")
