"""Names of fields that the reading of a body treats specially."""

from __future__ import annotations

# Objects, or their JSON text, whose fields count as fields of the body. One may hold a later one.
CONTAINERS = ("extra_body", "extra_params", "video_params")
# Fields that may hold a long data URL, in an object, or as text.
IMAGE_FIELDS = ("input_reference", "last_frame", "image_reference", "frame_images")
LONG_TEXT_FIELDS = frozenset(IMAGE_FIELDS) | {f"{name}[image_url]" for name in IMAGE_FIELDS}
