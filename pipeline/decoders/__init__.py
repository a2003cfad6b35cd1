"""Decode latents to frames with a `Decoder`: a setting selects its engine, and tiles bound its
memory.
"""

from pipeline.decoders.decoder import Decoder, Engine, frames_to_uint8
from pipeline.decoders.opening import open_decoder
from pipeline.decoders.tiling import Tiling
from pipeline.decoders.windows import Windows

__all__ = ["Decoder", "Engine", "Tiling", "Windows", "frames_to_uint8", "open_decoder"]
