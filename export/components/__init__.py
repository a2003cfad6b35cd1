"""One export config per part and component class. Adding a class is a module beside this and a line here."""

from __future__ import annotations

from collections.abc import Mapping

from export.components import umt5, wan_vae_decoder
from export.components.base import Bounds, Component
from pipeline.errors import CheckpointError

__all__ = ["PARTS", "Bounds", "Component", "component_for"]

PARTS: Mapping[str, Mapping[str, Component]] = {
    "text_encoder": {"UMT5EncoderModel": umt5.COMPONENT},
    "vae_decoder": {"AutoencoderKLWan": wan_vae_decoder.COMPONENT},
}
"""Part of a repository -> class of the checkpoint's component -> how it is exported."""


def component_for(part: str, class_name: str) -> Component:
    """Raises ``CheckpointError`` that lists the classes that can be exported as this part."""
    try:
        return PARTS[part][class_name]
    except KeyError:
        known = ", ".join(PARTS.get(part, ())) or "none"
        raise CheckpointError(f"a {class_name} cannot be exported as {part}; these can: {known}") from None
