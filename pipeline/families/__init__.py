"""Model families, served models and the requests to them.

The package does not import torch, because the proxy and the command line import it.
"""

from pipeline.families.bounds import Bounds
from pipeline.families.family import Defaults, Family
from pipeline.families.inputs import Clip, Inputs
from pipeline.families.model import ImageEncoder, ModelInfo
from pipeline.families.registry import FAMILIES, family_named, family_of
from pipeline.families.request import VideoRequest
from pipeline.families.sampling import SamplingParams

__all__ = [
    "FAMILIES",
    "Bounds",
    "Clip",
    "Defaults",
    "Family",
    "ImageEncoder",
    "Inputs",
    "ModelInfo",
    "SamplingParams",
    "VideoRequest",
    "family_named",
    "family_of",
]
