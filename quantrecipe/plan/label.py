"""label: what a file says that it mostly is (`general.file_type`), held against the types that it has.

A label is the name of one of llama-quantize's mixes; engines, model hubs and people go by it. It is true where the type
of most weights is the one that its mix is mostly made of. Only matrices in layers are counted, where there are any:
embeddings may outweigh all else in a small model, and no mix is called after theirs. A type that a tensor has as the
fallback of the mix's own counts as that one.

One judgement for all: `plan` chooses labels by it, and `check`, `import` and `inspect` say what it finds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from quantrecipe.api import QuantFormat
from quantrecipe.errors import QuantrecipeError
from quantrecipe.gguf.file_types import file_type_name
from quantrecipe.gguf.values import ValueType
from quantrecipe.model.model import Model
from quantrecipe.plan.assign import FLOATS
from quantrecipe.plan.trace import covers_all, trace
from quantrecipe.recipe.load import load_recipe
from quantrecipe.recipe.recipe import KEEP
from quantrecipe.registry import Registry
from quantrecipe.tensor import TensorInfo

__all__ = ["MAIN_TYPES", "Share", "label_of", "main_type", "untrue"]

# llama.cpp: llama_ftype_get_default_type, and where the mix gives most weights another type, that one. A test makes
# every preset on every reference model and holds it against this.
MAIN_TYPES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "Q2_K_S": ("Q2_K",),
        "Q3_K_S": ("Q3_K",),
        "Q3_K_M": ("Q3_K",),
        "Q3_K_L": ("Q3_K",),
        "Q4_K_S": ("Q4_K",),
        "Q4_K_M": ("Q4_K",),
        "Q5_K_S": ("Q5_K",),
        "Q5_K_M": ("Q5_K",),
        "IQ2_S": ("IQ2_XS", "IQ2_S"),  # the mix is of IQ2_XS; files that are of IQ2_S are called so, too
        "IQ2_M": ("IQ2_S",),
        "IQ3_XS": ("IQ3_XXS", "IQ3_S"),
        "IQ3_M": ("IQ3_S",),
        "MXFP4_MOE": ("MXFP4", "Q8_0"),  # a model without experts gets Q8_0
    }
)
"""The types of which a mix is mostly made, where that isn't the one type of its own name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """The type of most weights, and its share of those that are counted."""

    type: str
    share: float


def label_of(model: Model) -> str | None:
    """The name of a file's label; None where it has none that is known."""
    value = model.metadata.get("general.file_type")
    if value is None or value.type is not ValueType.UINT32:
        return None
    return file_type_name(value.decode())


def main_type(types: Iterable[tuple[TensorInfo, str]]) -> Share | None:
    """The type that most weights have, and their share; None where there are no weights."""
    weights: dict[str, int] = {}
    for tensor, type_ in _counted(list(types)):
        weights[type_] = weights.get(type_, 0) + tensor.size
    if not weights:
        return None
    most = max(weights, key=lambda name: (weights[name], name))
    return Share(type=most, share=weights[most] / max(1, sum(weights.values())))


def untrue(
    label: str | None,
    types: Iterable[tuple[TensorInfo, str]],
    model: Model | None,
    registry: Registry,
) -> Share | None:
    """The type that most weights have, where the label says another; None where it is true, or can't be judged.

    `model`: whose tensors these are. What llama-quantize's own mix makes of just this model is true, too: where there
    are few layers, its exceptions may be most of them. None: this isn't asked.
    """
    pairs = [(tensor, type_) for tensor, type_ in types]
    mains = _mains(label, registry.formats)
    if not mains:
        return None
    most = main_type(_undone(pairs, mains, registry))
    if most is None or most.type in mains:
        return None
    for has_importance in (
        False,
        True,
    ):  # mixes differ with a matrix, and files don't always say if there was one
        if model is None:
            break
        own = main_type(_mix(label, model, registry, has_importance=has_importance))
        if own is not None and own.type not in FLOATS:  # a mix that reaches nothing makes no label true
            most = main_type(_undone(pairs, (own.type,), registry))
            if most is None or most.type == own.type:
                return None
    return main_type(pairs)


def _mains(label: str | None, formats: Mapping[str, QuantFormat]) -> tuple[str, ...]:
    if label is None:
        return ()
    return MAIN_TYPES.get(label, (label,) if label in formats else ())


def _counted(pairs: list[tuple[TensorInfo, str]]) -> list[tuple[TensorInfo, str]]:
    matrices = [(tensor, type_) for tensor, type_ in pairs if len(tensor.shape) > 1]
    layers = [(tensor, type_) for tensor, type_ in matrices if tensor.layer is not None]
    return layers or matrices or pairs


def _undone(
    pairs: Iterable[tuple[TensorInfo, str]], mains: tuple[str, ...], registry: Registry
) -> Iterator[tuple[TensorInfo, str]]:
    """The types, with the one that was meant in the place of its fallback."""
    chains = {name: tuple(registry.chain(name)) for name in mains}
    known: dict[tuple[int, int, str], str] = {}
    for tensor, type_ in pairs:
        key = tensor.cols, tensor.rows, type_
        if key not in known:
            plain = replace(tensor, dtype="BF16")
            known[key] = next(
                (
                    name
                    for name, chain in chains.items()
                    if next((it.spec.name for it in chain if it.accepts(plain) is None), name) == type_
                ),
                type_,
            )
        yield tensor, known[key]


def _mix(
    label: str | None, model: Model, registry: Registry, *, has_importance: bool
) -> list[tuple[TensorInfo, str]]:
    """What llama-quantize's mix of this name asks for on the model; empty where there is no such mix."""
    try:
        recipe = load_recipe(f"llama.cpp/{label}", registry=registry)
        decisions = trace(recipe, model, covered=covers_all if has_importance else None).decisions
    except QuantrecipeError:
        return []
    return [(d.tensor, d.tensor.dtype if d.type == KEEP else d.type) for d in decisions]
