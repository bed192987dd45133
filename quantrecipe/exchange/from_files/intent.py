"""What a recipe meant where a tensor got a fallback: a row of 1152 weights has no blocks of 256.

A file shows only the fallback: IQ4_NL where IQ4_XS was asked for, Q5_0 for Q4_K, Q8_0 for Q6_K. A recipe that copied
them would give another model, whose rows do fit, types that nobody chose.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from quantrecipe.exchange.source import Source
from quantrecipe.registry import Registry
from quantrecipe.tensor import TensorInfo

__all__ = ["intended_types"]


def intended_types(types: Mapping[str, str], source: Source, hint: str | None = None) -> dict[str, str]:
    """Return, for each tensor whose type looks like a fallback, the type that was probably asked for.

    A type is taken for a fallback where the type that it stands in for is used elsewhere in the file: by the same role
    in other layers, by `hint` (what the file says it mostly is), or by most weights among tensors that have a choice.
    Where the fallback itself is used by tensors that the other would have fitted, only the first counts.
    """
    registry = source.registry
    chains = _chains(registry)
    wishes: dict[tuple[int, ...], dict[str, list[str]]] = {}
    free: dict[str, int] = {}
    by_role: dict[str, set[str]] = {}
    stuck: list[tuple[TensorInfo, list[str]]] = []
    for tensor in source.tensors:
        if tensor.name not in source.reached or tensor.name not in types:
            continue
        shape = (tensor.cols, tensor.rows)
        if shape not in wishes:
            wishes[shape] = _wishes(tensor, chains, registry)
        type_ = types[tensor.name]
        if candidates := wishes[shape].get(type_):
            stuck.append((tensor, candidates))
        else:
            free[type_] = free.get(type_, 0) + tensor.size
            by_role.setdefault(tensor.role, set()).add(type_)
    found = {}
    for tensor, candidates in stuck:
        actual = types[tensor.name]
        near = [wish for wish in candidates if wish in by_role.get(tensor.role, ())]
        known = [wish for wish in candidates if wish in free or wish == hint]
        if near:
            found[tensor.name] = near[0]
        elif known and (actual not in free or hint in known):
            found[tensor.name] = hint if hint in known else max(known, key=lambda it: (free.get(it, 0), it))
    return found


def _chains(registry: Registry) -> dict[str, list[str]]:
    chains = {name: [fmt.spec.name for fmt in registry.chain(name)][1:] for name in registry.formats}
    return {name: chain for name, chain in chains.items() if chain}


def _wishes(
    tensor: TensorInfo, chains: Mapping[str, Sequence[str]], registry: Registry
) -> dict[str, list[str]]:
    """Return, for each type that a tensor of this shape may have, the types whose fallback it is there."""
    fits = {
        name for name, fmt in registry.formats.items() if fmt.accepts(replace(tensor, dtype="BF16")) is None
    }
    found: dict[str, list[str]] = {}
    for name, chain in chains.items():
        if name not in fits and (end := next((it for it in chain if it in fits), None)):
            found.setdefault(end, []).append(name)
    return found
