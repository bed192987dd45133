"""What a model's metadata says layer by layer, when some of the layers are pruned.

    arrays with an item for each layer     lose the items of the pruned layers
    numbers that count layers              count those that are left
    patterns that go by a layer's number   have to give each layer the kind that it had

Which key means what is known from a table (`layer_keys.toml`), never guessed from an array's length: a model of four
layers has other arrays of four items. What the table doesn't know, or the file can't say any more, is refused under
the key's name, unless the recipe sets that key itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from quantrecipe.errors import PlanError, Problem
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.model.model import Model
from quantrecipe.model.sliding_window import layer_windows
from quantrecipe.packaged import packaged_table

__all__ = ["is_by_layer", "metadata_of_layers"]

_TABLE = "plan/pruning/layer_keys.toml"
_INTEGERS = frozenset(
    {
        *(ValueType.UINT8, ValueType.INT8, ValueType.UINT16, ValueType.INT16),
        *(ValueType.UINT32, ValueType.INT32, ValueType.UINT64, ValueType.INT64),
    }
)
_WINDOWS = "attention.sliding_window_pattern"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Layers:
    """The layers of a model, and which of them are left after pruning.

    n_layers: without the extra ones at the end, for next-token prediction
    n_blocks: with them
    left:     numbers in the model, in order; a layer's new number is its place here
    """

    n_layers: int
    n_blocks: int
    left: tuple[int, ...]

    @property
    def gone(self) -> tuple[int, ...]:
        return tuple(layer for layer in range(self.n_blocks) if layer not in set(self.left))

    @property
    def moved(self) -> bool:
        """Has a layer got another number? Not where only the last ones were pruned."""
        return self.left != tuple(range(len(self.left)))


def metadata_of_layers(
    model: Model, left: Sequence[int], *, n_layers: int, n_blocks: int, given: Mapping[str, GGUFValue]
) -> dict[str, GGUFValue]:
    """The pairs of the model's metadata that are different where only the layers `left` are kept.

    `given` are the pairs that the recipe sets: its author answers for these. PlanError, with every problem, where a
    key can't say any more what it said, or may be about layers and isn't known.
    """
    layers = _Layers(n_layers=n_layers, n_blocks=n_blocks, left=tuple(left))
    changed: dict[str, GGUFValue] = {}
    problems = list(_of_architecture(model, layers))
    for key, value in model.metadata.items():
        if key in given:
            continue
        try:
            new = _of_layers(key, value, model.arch, layers)
        except PlanError as error:
            problems += error.problems
            continue
        if new is not None and new != value:
            changed[key] = new
    changed[f"{model.arch}.block_count"] = GGUFValue.of(ValueType.UINT32, len(left))
    after = replace(model, metadata={**model.metadata, **changed, **given})
    problems += _patterns(model, after, layers, given)
    if problems:
        raise PlanError(problems)
    return changed


def is_by_layer(key: str, arch: str) -> bool:
    """True for a key that has an item for each layer in some models, or that counts layers."""
    table = packaged_table(_TABLE)
    name = key.removeprefix(f"{arch}.") if key.startswith(f"{arch}.") else ""
    counted = ("by_layer", "layer_numbers", "leading", "trailing")
    return (
        key in table["by_layer_whole"]
        or name == "block_count"
        or any(name in table[kind] for kind in counted)
    )


def _of_layers(key: str, value: GGUFValue, arch: str, layers: _Layers) -> GGUFValue | None:
    """The value for the layers that are left; None where it has nothing to do with layers. PlanError if unclear."""
    table = packaged_table(_TABLE)
    name = key.removeprefix(f"{arch}.") if key.startswith(f"{arch}.") else ""
    if key in table["by_layer_whole"] or name in table["by_layer"]:
        return _cut(key, value, layers)
    if not name or _listed(name, table["not_by_layer"]):
        return None
    if name in table["layer_numbers"]:
        return _renumbered(key, value, layers)
    if name in table["leading"]:
        return _counted(key, value, sum(layer < _number(key, value) for layer in layers.left))
    if name in table["trailing"]:
        first = layers.n_blocks - _number(key, value)
        return _counted(key, value, sum(layer >= first for layer in layers.left))
    if name in table["fixed_leading"]:
        if any(layer < _number(key, value) for layer in layers.gone):
            raise _refusal(
                f"{key} says that the first {_number(key, value)} layers take what comes from outside the model,"
                " so none of them can be pruned",
                "prune later layers",
            )
        return None
    if name in table["fixed_numbers"]:
        if layers.moved and _number(key, value):
            raise _refusal(
                f"{key} scales the weights by the layer's number, so the layers that are left can't get other numbers",
                "prune the last layers alone",
            )
        return None
    _refuse_unknown(key, name, value, layers)
    return None


def _cut(key: str, value: GGUFValue, layers: _Layers) -> GGUFValue | None:
    """An array without the items of the pruned layers; a number stays what it is for all."""
    if value.type is not ValueType.ARRAY:
        return None
    if len(value) not in (layers.n_blocks, layers.n_layers) or value.item_type is ValueType.ARRAY:
        counted = f"{layers.n_blocks}"
        if layers.n_layers != layers.n_blocks:
            counted += f", or {layers.n_layers} without those for next-token prediction"
        raise _refusal(
            f"{key} has an item for each layer, but {len(value):,} of them, and the model has {counted} layers; so it"
            " isn't known which go",
            _set_it(key),
        )
    items = value.decode()
    kept = [items[layer] for layer in layers.left if layer < len(items)]
    if key.endswith(".deepstack_mapping") and {n for n in kept if n >= 0} != {n for n in items if n >= 0}:
        raise _refusal(
            f"{key} says that a pruned layer takes what comes from outside the model, so it can't be pruned",
            "prune layers whose item is -1",
        )
    return value.with_items(kept)


def _renumbered(key: str, value: GGUFValue, layers: _Layers) -> GGUFValue:
    if value.item_type not in _INTEGERS:
        raise _refusal(f"{key} isn't a list of layers", _set_it(key))
    numbers = {old: new for new, old in enumerate(layers.left)}
    return value.with_items([numbers[n] for n in value.decode() if n in numbers])


def _counted(key: str, value: GGUFValue, number: int) -> GGUFValue:
    _number(key, value)  # refuses what is no number
    return GGUFValue.of(value.type, number)


def _number(key: str, value: GGUFValue) -> int:
    if value.type not in _INTEGERS:
        raise _refusal(f"{key} counts layers, but is no whole number", _set_it(key))
    return int(value.decode())


def _refuse_unknown(key: str, name: str, value: GGUFValue, layers: _Layers) -> None:
    """A key of the architecture that isn't in the table, and may be about layers."""
    patterns = {pattern.get("key") for pattern in packaged_table(_TABLE)["pattern"]}
    if name == "block_count" or name in patterns:
        return
    if value.type is ValueType.ARRAY and len(value) in (layers.n_blocks, layers.n_layers):
        raise _refusal(
            f"{key} has {len(value):,} items, as many as the model has layers, and it isn't known whether they are"
            " about the layers",
            _set_it(key),
        )
    if value.type in _INTEGERS and ("layer" in name or "block" in name):
        raise _refusal(f"{key} may count layers or be a layer's number, and isn't known", _set_it(key))


def _of_architecture(model: Model, layers: _Layers) -> Iterator[Problem]:
    """What stands against pruning layers of this architecture, whatever the metadata says."""
    table, arch = packaged_table(_TABLE), model.arch
    if arch in table["whole"]:
        yield Problem(
            what=f"layers of {arch} can't be pruned: {table['whole'][arch]}", remedy="leave `prune` out"
        )
    if arch in table["first_layer_differs"] and 0 in layers.gone:
        yield Problem(
            what=f"layer 0 of {arch} can't be pruned: later layers mix its values into theirs",
            remedy="prune others",
        )
    names = {tensor.name for tensor in model.tensors}
    for name in table["tensors_by_layer"]:
        if name in names:
            yield Problem(
                what=f"{name} has a part for each layer, and no part of a tensor can be pruned, so layers of this model"
                " can't be",
                remedy="leave `prune` out",
            )
    if (known := table["by_count"].get(arch)) is not None:
        now = sum(layer < layers.n_layers for layer in layers.left)
        if now != layers.n_layers and not {now, layers.n_layers}.isdisjoint(known["counts"]):
            yield Problem(
                what=f"llama.cpp goes by how many layers a {arch} has ({layers.n_layers}, and {now} would be left):"
                f" they decide {known['what']}",
                remedy=f"layers of a {arch} of this size can't be pruned: leave `prune` out",
            )
    yield from _shared_caches(model, layers)


def _shared_caches(model: Model, layers: _Layers) -> Iterator[Problem]:
    """Layers without keys and values of their own use those of the last two that have them (llama.cpp: gemma4)."""
    shared = model.number("attention.shared_kv_layers")
    first = layers.n_blocks - shared
    lenders = {first - 2, first - 1}
    if shared and any(layer >= first for layer in layers.left) and lenders & set(layers.gone):
        yield Problem(
            what=f"{model.arch}.attention.shared_kv_layers: the last {shared} layers use the keys and values of layers"
            f" {first - 2} and {first - 1}, so these can't be pruned",
            remedy="prune others",
        )


def _patterns(
    before: Model, after: Model, layers: _Layers, given: Mapping[str, GGUFValue]
) -> Iterator[Problem]:
    """Patterns that go by the layer's number, and would give a layer another kind under its new one."""
    rules: list[tuple[str, str, str, Callable[[Model, int], Sequence[object]]]] = [
        (_WINDOWS, _WINDOWS, "a sliding window", layer_windows)
    ]
    for pattern in packaged_table(_TABLE)["pattern"]:
        key, array = pattern.get("key", ""), pattern.get("array", "")
        rules.append((key, array, pattern["what"], _Periodic(pattern).kinds))
    for key, array, what, kinds in rules:
        if any(name and f"{before.arch}.{name}" in given for name in (key, array)):
            continue
        old = kinds(before, layers.n_blocks)
        new = kinds(after, len(layers.left))
        if not old or not new:
            continue
        wrong = [
            (was, now)
            for now, was in enumerate(layers.left)
            if was < layers.n_layers and old[was] != new[now]
        ]
        if not wrong:
            continue
        was, now = wrong[0]
        source = f"{before.arch}.{key}" if key else f"the architecture {before.arch}"
        remedy = "prune so that each layer keeps its kind: whole periods, or the last layers"
        if array:
            items = ", ".join(str(int(bool(old[layer]))) for layer in layers.left)
            remedy += "; or say it layer by layer, which llama.cpp reads, too:"
            remedy += f" metadata: {{{before.arch}.{array}: [{items}]}}"
        yield Problem(
            what=f"{source} says by a layer's number which layers have {what}: layer {was} would be layer {now}, and of"
            " the other kind",
            remedy=remedy,
        )


class _Periodic:
    """A pattern of the table: one layer of each period is of the other kind."""

    def __init__(self, pattern: Mapping[str, Any]) -> None:
        self._pattern = pattern

    def kinds(self, model: Model, count: int) -> Sequence[object]:
        """False for the one that is different; nothing where the model has no such pattern, or has it as an array."""
        pattern = self._pattern
        if pattern.get("windowed") and not any(layer_windows(model, count)):
            return ()
        if isinstance(model.hyperparameter(pattern.get("array", "")), list):
            return ()
        period = model.hyperparameter(pattern.get("key", ""))
        if not isinstance(period, int):
            period = pattern.get("every", {}).get(model.arch, 0)
        if not period:
            return ()
        return [layer % period != pattern["at"] % period for layer in range(count)]


def _listed(name: str, names: Sequence[str]) -> bool:
    return any(name == it or (it.endswith("*") and name.startswith(it[:-1])) for it in names)


def _set_it(key: str) -> str:
    return f"say what it is after pruning, in the recipe: metadata: {{{key}: …}}"


def _refusal(what: str, remedy: str) -> PlanError:
    return PlanError(f"`prune`: {what}", remedy)
