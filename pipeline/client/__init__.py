"""Clients of the ensemble: a request in, a stream of progress out, and the video at its end. No torch.

`VideoClient` is here; `pipeline.client.aio.AsyncVideoClient` is imported from its own module, as asyncio's gRPC is
slow to import.
"""

from pipeline.client.blocking import VideoClient
from pipeline.client.messages import DeadStage, Progress, Video

__all__ = ["DeadStage", "Progress", "Video", "VideoClient"]
