"""Read the geometry of a checkpoint's latents from its component configs, and check that they
match each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.errors import CheckpointError
from pipeline.families import Defaults, Family, ImageEncoder, ModelInfo
from pipeline.families.family import InputUse
from pipeline.validation import first_problem

MAX_CHANNELS = 4096  # latent channels: longer lists in a config are refused


@dataclass(frozen=True)
class _Components:
    """The configs of one checkpoint. A key missing from a config has its class's default value."""

    path: Path
    family: Family
    configs: Mapping[str, Mapping[str, Any]]

    def integer(self, component: str, key: str, default: int) -> int:
        """Return the integer ``key`` of the component's config, ``default`` if missing.

        Raises ``CheckpointError`` when the value is not an integer.
        """
        found = self.configs[component].get(key, default)
        if type(found) is not int:
            raise CheckpointError(
                f"{self.path / component / 'config.json'}: {key} is {found!r}, but should be an "
                "integer"
            )
        return found

    def require(self, component: str, key: str, default: Any, wanted: Any, why: str) -> None:
        """Check that ``key`` of the component's config, ``default`` if missing, is ``wanted``.

        Raises ``CheckpointError`` when it is not.
        """
        found = self.configs[component].get(key, default)
        if found != wanted:
            raise CheckpointError(
                f"{self.path / component / 'config.json'}: {key} is {found!r}, but should be "
                f"{wanted!r}, {why}"
            )


def model_info(
    path: Path, family: Family, configs: Mapping[str, Mapping[str, Any]], defaults: Defaults
) -> ModelInfo:
    """Return the model description of the checkpoint in the folder ``path``.

    ``configs`` maps each component to its config. Raises ``CheckpointError``, which names the
    config that does not match.
    """
    components = _Components(path, family, configs)
    read = (
        _hunyuan
        if family.components["transformer"] == ("HunyuanVideoTransformer3DModel",)
        else _wan
    )
    try:
        return ModelInfo(
            name=path.name,
            family=family.name,
            defaults=defaults,
            max_side=family.max_side,
            max_frames=family.max_frames,
            max_steps=family.max_steps,
            image=family.image,
            edits=family.edits,
            extends=family.extends,
            **read(components),
        )
    except ValidationError as error:
        field, message, _ = first_problem(error)
        raise CheckpointError(f"{path}: {field} in a component's config: {message}") from None


def _wan(components: _Components) -> dict[str, Any]:
    """Return the geometry of a Wan checkpoint. Both experts must have the same one.

    An image passed in as channels adds the channels of its latents and of a mask.
    """
    configs, family = components.configs, components.family
    d_model = configs["text_encoder"].get("d_model")
    z_dim = components.integer("vae", "z_dim", 16)
    temporal = components.integer("vae", "scale_factor_temporal", 4)
    _require_compression(components)
    channels, why = z_dim, "the VAE's z_dim"
    if family.image_in_channels:
        channels, why = 2 * z_dim + temporal, "the VAE's z_dim twice and a mask"
    patch = configs["transformer"].get("patch_size", [1, 2, 2])
    square = isinstance(patch, list) and len(patch) == 3 and patch == [1, patch[2], patch[2]]
    for name in family.transformers:
        components.require(name, "in_channels", 16, channels, why)
        components.require(name, "out_channels", 16, z_dim, "the VAE's z_dim")
        components.require(name, "text_dim", 4096, d_model, "the text encoder's d_model")
        components.require(
            name, "patch_size", [1, 2, 2], patch if square else [1, 2, 2], "1 in time and square"
        )
        if "image_encoder" in configs:
            size = configs["image_encoder"].get("hidden_size", 768)
            components.require(name, "image_dim", None, size, "the image encoder's hidden_size")
    _require_statistics(components, z_dim)
    encoder = _image_encoder(components) if "image_encoder" in configs else None
    return {
        "latent_channels": z_dim,
        "spatial_compression": configs["vae"].get("scale_factor_spatial", 8),
        "temporal_compression": temporal,
        "patch_size": patch[2],
        "text_dim": d_model,
        "image_encoder": encoder,
        "last_frame": _last_frame(components, encoder) if encoder else family.last_frame,
    }


def _last_frame(components: _Components, encoder: ImageEncoder) -> InputUse:
    """Return whether a Wan 2.1 model takes a last frame beside the first one.

    The transformer of FLF2V has positions for the tokens of two images, and no other checkpoint
    has ``pos_embed_seq_len``. Raises ``CheckpointError`` for positions of another length.
    """
    (name,) = components.family.transformers
    if components.configs[name].get("pos_embed_seq_len") is None:
        return "refused"
    both, why = 2 * encoder.tokens, "the tokens of two images of the image encoder"
    components.require(name, "pos_embed_seq_len", None, both, why)
    return "required"


def _require_compression(components: _Components) -> None:
    """Check that the VAE's scale factors match the compression that its levels produce.

    The config states both. Raises ``CheckpointError`` when they differ.
    """
    config = components.configs["vae"]
    halves = config.get("temperal_downsample", [False, True, True])
    levels, patch = config.get("dim_mult", [1, 2, 4, 4]), config.get("patch_size") or 1
    if not _is_list(halves, bool) or not _is_list(levels, int) or type(patch) is not int:
        raise CheckpointError(
            f"{components.path / 'vae/config.json'}: dim_mult, temperal_downsample and patch_size "
            "should be a list of "
            "integers, a list of booleans and an integer"
        )
    components.require(
        "vae", "scale_factor_temporal", 4, 2 ** sum(halves), "as temperal_downsample has it"
    )
    components.require(
        "vae",
        "scale_factor_spatial",
        8,
        patch * 2 ** (len(levels) - 1),
        "as dim_mult and patch_size have it",
    )


def _require_statistics(components: _Components, channels: int) -> None:
    """Check the mean and the standard deviation of each latent channel.

    Latents are divided by the deviation, and nothing else checks it.
    """
    for name in ("latents_mean", "latents_std"):
        found = components.configs["vae"].get(name)
        if found is None:
            continue  # the class defaults to those of Wan 2.1
        fits = _is_list(found, float, int) and len(found) == channels
        if not fits or (name == "latents_std" and not all(value > 0 for value in found)):
            raise CheckpointError(
                f"{components.path / 'vae/config.json'}: {name} should be {channels} numbers"
                f"{' above 0' if name == 'latents_std' else ''}, one for each latent channel "
                "(z_dim)"
            )


def _is_list(found: object, *kinds: type) -> bool:
    return (
        isinstance(found, list)
        and len(found) <= MAX_CHANNELS
        and all(type(value) in kinds for value in found)
    )


def _image_encoder(components: _Components) -> ImageEncoder:
    """Return the geometry of the CLIP image encoder: one token per patch plus the class token.

    The defaults are those of its config's class.
    """
    side, patch, dim = (
        components.integer("image_encoder", key, default)
        for key, default in (("image_size", 224), ("patch_size", 32), ("hidden_size", 768))
    )
    return ImageEncoder(side=side, tokens=(side // max(1, patch)) ** 2 + 1, dim=dim)


def _hunyuan(components: _Components) -> dict[str, Any]:
    transformer, vae = components.configs["transformer"], components.configs["vae"]
    llama, clip = (
        components.configs[name].get("hidden_size") for name in ("text_encoder", "text_encoder_2")
    )
    channels = vae.get("latent_channels", 16)
    components.require("transformer", "in_channels", 16, channels, "the VAE's latent_channels")
    components.require("transformer", "out_channels", 16, channels, "the VAE's latent_channels")
    components.require(
        "transformer", "text_embed_dim", 4096, llama, "the hidden_size of text_encoder"
    )
    components.require(
        "transformer", "pooled_projection_dim", 768, clip, "the hidden_size of text_encoder_2"
    )
    components.require(
        "transformer", "patch_size_t", 1, 1, "as this version makes a token of one latent frame"
    )
    return {
        "latent_channels": channels,
        "spatial_compression": vae.get("spatial_compression_ratio", 8),
        "temporal_compression": vae.get("temporal_compression_ratio", 4),
        "patch_size": transformer.get("patch_size", 2),
        "text_dim": llama,
        "pooled_dim": clip,
    }
