"""Check a LoRA against a checkpoint, from the headers of both: nothing is loaded."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pipeline.checkpoint.folder import Checkpoint
from pipeline.checkpoint.regular_files import open_regular
from pipeline.checkpoint.safetensors_header import Entry, read_file
from pipeline.checkpoint.weight_files import WEIGHT_NAMES, read_headers
from pipeline.errors import CheckpointError
from pipeline.lora.alphas import Alphas, alphas_of, read_alpha
from pipeline.lora.keys import OTHER_KINDS, Key, Role, aliases, is_unused, parse
from pipeline.lora.sources import Source, sources_of

FLOATS = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True)
class Patch:
    """What a LoRA adds to the output of one linear layer, as names of tensors in ``file``.

    For an input x it is ``factor`` x up (down x), plus ``full`` x, plus ``bias_factor`` bias; those
    that are None are left out. The layer has the outputs ``first`` to ``last`` (excluded) of up,
    full and bias.
    """

    file: Path
    layer: str
    first: int
    last: int
    down: str | None = None
    up: str | None = None
    full: str | None = None
    bias: str | None = None
    factor: float = 1.0
    bias_factor: float = 1.0


@dataclass(frozen=True)
class Adapter:
    """A LoRA that fits its model: the patches of each transformer, in the order of the experts.

    ``elements`` are those of all its tensors, ``unused`` tensors belong to layers that the model
    does not have.
    """

    patches: tuple[tuple[Patch, ...], ...]
    elements: int
    unused: int


@dataclass(frozen=True)
class _Layer:
    """Sizes of a linear layer."""

    outputs: int
    inputs: int
    bias: bool


def open_adapter(path: Path, checkpoint: Checkpoint) -> Adapter:
    """Read and check the headers of the LoRA ``path``, a file or a folder.

    Raises ``CheckpointError`` for what is no LoRA of this checkpoint. It names the tensor, its
    shape, and what the model has.
    """
    names = checkpoint.family.transformers
    models = [_layers(checkpoint.path, name) for name in names]
    patches: list[list[Patch]] = [[] for _ in names]
    elements = unused = 0
    sources = sources_of(path)
    for source in sources:
        file = _File.read(source)
        if len(names) == 1 and (len(sources) > 1 or file.has_second):
            raise CheckpointError(
                f"{path} is for two experts; {checkpoint.info.name} has one transformer"
            )
        for expert, (name, layers) in enumerate(zip(names, models, strict=True)):
            if not file.is_for(expert, len(names)):
                continue
            alphas = alphas_of(source.folder, file.metadata, name)
            found, used, skipped = file.patches(layers, alphas, expert)
            patches[expert] += found
            elements, unused = elements + used, unused + skipped
    if not any(patches):
        raise CheckpointError(f"{path} changes no layer of {checkpoint.info.name}")
    return Adapter(tuple(map(tuple, patches)), elements, unused)


@lru_cache(maxsize=4)  # a folder may hold many LoRAs
def _layers(path: Path, name: str) -> dict[str, _Layer]:
    """Return the linear layers of the transformer ``name`` in the checkpoint ``path``."""
    headers = read_headers(path / name, WEIGHT_NAMES[name])
    entries = {key: entry for header in headers.values() for key, entry in header.items()}
    return {
        key.removesuffix(".weight"): _Layer(
            *entry.shape, bias=key.removesuffix("weight") + "bias" in entries
        )
        for key, entry in entries.items()
        if key.endswith(".weight") and len(entry.shape) == 2
    }


@dataclass(frozen=True)
class _File:
    """The parsed header of one file of a LoRA."""

    source: Source
    entries: Mapping[str, Entry]
    metadata: Mapping[str, str]
    keys: Mapping[str, Key | None]

    @classmethod
    def read(cls, source: Source) -> _File:
        entries, metadata = read_file(source.file)
        keys = {name: parse(name) for name in entries}
        for name in entries:
            for part, kind in OTHER_KINDS.items():
                if part in name:
                    raise CheckpointError(
                        f"{source.file}: {name} is of a {kind}, which is not supported; "
                        "an adapter must be a LoRA"
                    )
        return cls(source, entries, metadata, keys)

    @property
    def has_second(self) -> bool:
        """Whether names of tensors say that they are for the second expert."""
        return any(key.second for key in self.keys.values() if key)

    def is_for(self, expert: int, experts: int) -> bool:
        """Return whether some tensors are for the transformer with the index ``expert``."""
        if experts == 1 or self.has_second or self.source.expert is None:
            return True
        return self.source.expert == expert

    def patches(
        self, layers: Mapping[str, _Layer], alphas: Alphas, expert: int
    ) -> tuple[list[Patch], int, int]:
        """Return the patches of a model with ``layers``, their elements, and how many tensors are
        not used.
        """
        groups, unused = self._groups(layers, expert)
        elements = sum(
            math.prod(self.entries[name].shape)
            for group in groups.values()
            for name in group.values()
        )
        names = aliases(layers)
        with open_regular(self.source.file) as file:
            found = [
                patch
                for alias, group in groups.items()
                for patch in self._patch(
                    alias,
                    group,
                    {path: layers[path] for path in names[alias]},
                    read_alpha(file, self.source.file, group["alpha"], self.entries[group["alpha"]])
                    if "alpha" in group
                    else None,
                    alphas,
                )
            ]
        return found, elements, unused

    def _groups(
        self, layers: Mapping[str, _Layer], expert: int
    ) -> tuple[dict[str, dict[Role, str]], int]:
        """Return the names of the tensors of each layer by role, and how many are not used."""
        known, groups, unused = aliases(layers), dict[str, dict[Role, str]](), 0
        for name, key in self.keys.items():
            if key and self.has_second and key.second != bool(expert):
                continue
            if key and key.layer in known:
                group = groups.setdefault(key.layer, {})
                if key.role in group:
                    raise CheckpointError(
                        f"{self.source.file}: {name} and {group[key.role]} are the same tensor"
                    )
                group[key.role] = name
            elif is_unused(name, key):
                unused += 1
            else:
                raise CheckpointError(
                    f"{self.source.file}: {name} belongs to no linear layer of the model; it has "
                    f"{len(layers)}, such as {min(layers, default='none')}"
                )
        return groups, unused

    def _patch(
        self,
        alias: str,
        group: Mapping[Role, str],
        layers: Mapping[str, _Layer],
        alpha: float | None,
        alphas: Alphas,
    ) -> Iterator[Patch]:
        """Yield a patch for each of ``layers``, whose outputs are concatenated in the file under
        the name ``alias``.
        """
        outputs = sum(layer.outputs for layer in layers.values())
        (inputs,) = {layer.inputs for layer in layers.values()}
        rank = self._rank(group)
        bias = group.get("bias", group.get("up_bias"))
        for name, shape in (
            (group.get("down"), (rank, inputs)),
            (group.get("up"), (outputs, rank)),
            (group.get("full"), (outputs, inputs)),
            (bias, (outputs,)),
        ):
            self._require(name, shape, layers)
        first, factor = 0, alphas.factor(alias, rank) if alpha is None else alpha / rank
        for path, layer in layers.items():
            if bias is not None and not layer.bias:
                raise CheckpointError(f"{self.source.file}: {bias}: {path} has no bias")
            yield Patch(
                self.source.file,
                path,
                first,
                first + layer.outputs,
                down=group.get("down"),
                up=group.get("up"),
                full=group.get("full"),
                bias=bias,
                factor=factor,
                bias_factor=1.0 if "bias" in group else factor,
            )
            first += layer.outputs

    def _rank(self, group: Mapping[Role, str]) -> int:
        """Return the rank of a pair of matrices, 1 if there is none."""
        name = group.get("down", group.get("up"))
        if name is None:
            return 1
        if not {"down", "up"} <= group.keys():
            raise CheckpointError(f"{self.source.file}: {name} has no second matrix beside it")
        shape = self.entries[group["down"]].shape
        return max(1, shape[0]) if shape else 1

    def _require(
        self, name: str | None, shape: tuple[int, ...], layers: Mapping[str, _Layer]
    ) -> None:
        if name is None:
            return
        entry = self.entries[name]
        if entry.shape != shape:
            raise CheckpointError(
                f"{self.source.file}: {name} is {list(entry.shape)}; "
                f"{' and '.join(layers)} of the model needs {list(shape)}"
            )
        if entry.dtype not in FLOATS:
            raise CheckpointError(
                f"{self.source.file}: {name} is of type {entry.dtype}; it must be one of "
                f"{', '.join(FLOATS)}"
            )
