"""From latents to frames: one `Decoder`, whose engine is chosen by a setting and whose memory is bounded by tiles."""

from pipeline.decoders.decoder import Decoder, Engine, frames_to_uint8
from pipeline.decoders.opening import open_decoder
from pipeline.decoders.tiling import Tiling

__all__ = ["Decoder", "Engine", "Tiling", "frames_to_uint8", "open_decoder"]
