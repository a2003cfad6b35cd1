"""What a model family is and what a request to it may say. No torch: the proxy and the command line import this."""

from pipeline.spec.bounds import Bounds
from pipeline.spec.family import Defaults, Family
from pipeline.spec.model import ImageEncoder, ModelInfo, VideoRequest
from pipeline.spec.registry import FAMILIES, family_named, family_of
from pipeline.spec.sampling import SamplingParams

__all__ = [
    "FAMILIES",
    "Bounds",
    "Defaults",
    "Family",
    "ImageEncoder",
    "ModelInfo",
    "SamplingParams",
    "VideoRequest",
    "family_named",
    "family_of",
]
