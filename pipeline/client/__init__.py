"""Clients of the ensemble: they send a request and stream its progress, then the video.

The package does not import torch. Import `AsyncVideoClient` from `pipeline.client.aio`: asyncio's
gRPC is slow to import, so this package leaves it out.
"""

from pipeline.client.blocking import VideoClient
from pipeline.client.messages import (
    CONTROL,
    DECODER,
    DeadStage,
    Preview,
    Progress,
    StageFault,
    Stages,
    Video,
)

__all__ = [
    "CONTROL",
    "DECODER",
    "DeadStage",
    "Preview",
    "Progress",
    "StageFault",
    "Stages",
    "Video",
    "VideoClient",
]
