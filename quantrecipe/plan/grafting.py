"""graft: a model with tensors of another in it, before anything is planned.

    base    blk.0 … blk.59
    donor   blk.0 … blk.60, which is for next-token prediction
    draft   blk.0 … blk.59 of the base, blk.60 of the donor

Tensors that both have take the base's place, and must have its shape. Others come behind. Where that adds layers, what
metadata says layer by layer is the donor's; all other metadata is the base's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from quantrecipe.errors import PlanError, Problem
from quantrecipe.gguf.values import GGUFValue
from quantrecipe.model.model import Model
from quantrecipe.plan.pruning.layer_metadata import is_by_layer
from quantrecipe.recipe.terms.layers import LayerSet
from quantrecipe.recipe.terms.pattern import Pattern
from quantrecipe.tensor import TensorInfo
from quantrecipe.wording import some_of

__all__ = ["Graft", "graft"]

_TOKENS = "tokenizer.ggml.tokens"
_VOCABULARY = ("token_embd", "output", "output_norm")
_NAMED = 3
"""Tensors or keys that a message names."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Graft:
    """A base with tensors of a donor.

    model:    under the base's path; its sources lie in the files of both
    replaced: names of the tensors that were the base's
    added:    names of those that it didn't have
    metadata: keys whose values are the donor's now
    notes:    what a person may want to look at
    """

    model: Model
    replaced: tuple[str, ...]
    added: tuple[str, ...]
    metadata: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def taken(self) -> tuple[str, ...]:
        """All tensors that are the donor's."""
        return (*self.replaced, *self.added)


def graft(
    base: Model,
    donor: Model,
    patterns: Sequence[Pattern],
    *,
    layers: LayerSet | None = None,
    draft_head: bool = False,
) -> Graft:
    """Bring the donor's tensors that a pattern names into the base.

    layers: only those in these layers; draft_head: the donor's layers for next-token prediction, too, all of them.
    PlanError, with every problem, where a pattern names nothing, or the two don't fit together.
    """
    taken = _taken(base, donor, patterns, layers, draft_head=draft_head)
    problems = list(_misfits(base, donor, taken))
    if problems:
        raise PlanError(problems)
    there = {tensor.name for tensor in base.tensors}
    replaced = tuple(name for name in taken if name in there)
    added = tuple(name for name in taken if name not in there)
    metadata = _metadata(base, donor, [taken[name] for name in added])
    model = replace(
        base,
        tensors=(
            *(taken.get(tensor.name, tensor) for tensor in base.tensors),
            *(taken[name] for name in added),
        ),
        sources={**base.sources, **{name: donor.sources[name] for name in taken}},
        metadata={**base.metadata, **metadata},
        files=tuple(dict.fromkeys((*base.files, *donor.files))),
    )
    return Graft(
        model=model,
        replaced=replaced,
        added=added,
        metadata=tuple(metadata),
        notes=tuple(_notes(base, donor, metadata, taken)),
    )


def _taken(
    base: Model, donor: Model, patterns: Sequence[Pattern], layers: LayerSet | None, *, draft_head: bool
) -> dict[str, TensorInfo]:
    """By name. A pattern stays within the layers that the base has: a part of a layer is nothing that runs."""
    found: dict[str, TensorInfo] = {}
    problems = []
    for pattern in patterns:
        named = [
            tensor
            for tensor in donor.tensors
            if pattern.matches(tensor, donor.head)
            and not _behind(tensor, base)
            and (layers is None or layers.contains(tensor.layer, donor.n_layers))
        ]
        if not named:
            where = "" if layers is None else f" in the layers {layers}"
            problems.append(
                Problem(
                    what=f"no tensor of {donor.path} is named by {str(pattern)!r}{where}",
                    remedy="`quantrecipe inspect DONOR` lists the names; layers that the base hasn't come with --mtp",
                )
            )
        found |= {tensor.name: tensor for tensor in named}
    if draft_head:
        drafts = {it.name: it for it in donor.tensors if it.layer is not None and it.layer >= donor.n_layers}
        if not drafts:
            problems.append(
                Problem(
                    what=f"{donor.path} has no layers for next-token prediction",
                    remedy="take a file that has them; `quantrecipe inspect DONOR` lists the layers",
                )
            )
        found |= drafts
    if problems:
        raise PlanError(problems)
    return found


def _misfits(base: Model, donor: Model, taken: Mapping[str, TensorInfo]) -> Iterator[Problem]:
    """Why the two can't be put together."""
    if base.arch != donor.arch:
        yield Problem(
            what=f"{base.path} is a {base.arch or 'model of no known architecture'}, and {donor.path} a {donor.arch}",
            remedy="take tensors of a model of the same architecture",
        )
        return
    there = {tensor.name: tensor for tensor in base.tensors}
    for name, tensor in taken.items():
        if there.get(name, tensor).shape != tensor.shape:
            yield Problem(
                what=f"{name} has the shape {_shape(tensor)} in {donor.path}, and {_shape(there[name])} in "
                f"{base.path}",
                remedy="leave it out, or take it from a model of the same size",
            )
    if base.n_layers != donor.n_layers and any(_behind(it, base) for it in taken.values()):
        yield Problem(
            what=f"a token goes through {base.n_layers} layers of {base.path}, and {donor.n_layers} of {donor.path}",
            remedy="take layers of a model of the same depth",
        )


def _metadata(base: Model, donor: Model, added: Sequence[TensorInfo]) -> dict[str, GGUFValue]:
    """The donor's pairs that are about layers, where there are more of these now."""
    if not any(_behind(it, base) for it in added):
        return {}
    return {
        key: value
        for key, value in donor.metadata.items()
        if is_by_layer(key, donor.arch) and base.metadata.get(key) != value
    }


def _notes(
    base: Model, donor: Model, metadata: Mapping[str, GGUFValue], taken: Mapping[str, TensorInfo]
) -> Iterator[str]:
    """What isn't wrong, and may not be meant."""
    prefix = f"{base.arch}."
    others = [
        key
        for key in dict.fromkeys((*base.metadata, *donor.metadata))
        if key.startswith(prefix)
        and key not in metadata
        and base.metadata.get(key) != donor.metadata.get(key)
    ]
    if others:
        yield f"the two differ in {some_of(others, _NAMED)}, where the base's values stay"
    vocabulary = [name for name, tensor in taken.items() if tensor.role in _VOCABULARY]
    if vocabulary and base.metadata.get(_TOKENS) != donor.metadata.get(_TOKENS):
        yield (
            f"the vocabularies differ, and {some_of(vocabulary, _NAMED)} {'goes' if len(vocabulary) == 1 else 'go'} by "
            "the donor's; the base's stays in the file"
        )


def _behind(tensor: TensorInfo, base: Model) -> bool:
    """True for a tensor of a layer that the base hasn't."""
    return tensor.layer is not None and tensor.layer >= base.n_blocks


def _shape(tensor: TensorInfo) -> str:
    return " × ".join(map(str, tensor.shape))
