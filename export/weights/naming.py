"""Find the stored tensor of each parameter by the two libraries' own rules, so that what they load
is what is exported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from pipeline.errors import CheckpointError


def names_in_files(model: Any, stored: Iterable[str]) -> dict[str, str]:
    """Return the stored name of each parameter or buffer of ``model``, without those that no file
    has.

    A parameter that is tied to another has the name of the one that is stored. Stored tensors that
    the model does not use are left out, as ``from_pretrained`` does. Raises ``CheckpointError`` for
    a tensor that is stored in another form than the model's.
    """
    wanted = model.state_dict(keep_vars=True)
    # diffusers keeps names; only transformers' models have this.
    loaded_as = _renaming(model, set(wanted)) if hasattr(model, "base_model_prefix") else str
    found = {ours: name for name in stored if (ours := loaded_as(name)) in wanted}
    stored_as = {id(wanted[ours]): name for ours, name in found.items()}
    return {
        ours: stored_as[id(tensor)] for ours, tensor in wanted.items() if id(tensor) in stored_as
    } | found


def _renaming(model: Any, wanted: set[str]) -> Callable[[str], str]:
    """Return how transformers renames tensors of older releases, and of models around or inside
    this one.
    """
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

    mapping = get_model_conversion_mapping(model)
    renamings = [step for step in mapping if isinstance(step, WeightRenaming)]
    converters = [step for step in mapping if isinstance(step, WeightConverter)]
    prefix, known = model.base_model_prefix, dict.fromkeys(wanted, True)

    def loaded_as(name: str) -> str:
        ours, converter = rename_source_key(name, renamings, converters, prefix, known)
        if ours not in wanted and name in wanted:
            ours, converter = rename_source_key(name, [], [], prefix, known)
        if converter is not None and ours in wanted:
            raise CheckpointError(f"{name} must be converted to {ours}, which an export cannot do")
        return ours

    return loaded_as
