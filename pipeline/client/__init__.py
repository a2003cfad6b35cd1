"""Clients of the ensemble: a request in, a stream of progress out, and the video at its end. No
torch.

`VideoClient` is here; `pipeline.client.aio.AsyncVideoClient` is imported from its own module, as
asyncio's gRPC is slow to import.
"""

from pipeline.client.blocking import VideoClient
from pipeline.client.messages import CONTROL, DeadStage, Progress, StageFault, Stages, Video

__all__ = ["CONTROL", "DeadStage", "Progress", "StageFault", "Stages", "Video", "VideoClient"]
