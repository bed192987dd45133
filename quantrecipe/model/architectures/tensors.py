"""Tensors of a checkpoint → tensors of the GGUF: which ones, by the architecture's rules; names and order.

The order is the converter's: computed tensors first, then those of MXFP4, then file by file, by name within a file, and
what several tensors make where the last of them comes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import prod

import numpy as np

from quantrecipe.errors import ModelError, Problem, abridged
from quantrecipe.model.architectures.architecture import Architecture, Computed
from quantrecipe.model.architectures.completeness import check_tensors, present_layers
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.names import COMPANIONS, Names, layer_of
from quantrecipe.model.architectures.quantized import weights_of
from quantrecipe.model.architectures.rules import Each, First, Found, Gather, Named, Rule, Stack, template
from quantrecipe.model.safetensors import Checkpoint
from quantrecipe.model.source import layout
from quantrecipe.model.source.source import Constant, TensorSource
from quantrecipe.model.storable import as_ggml_writes, as_tensor_info, check_storable
from quantrecipe.tensor import TensorInfo

__all__ = ["Converted", "convert_tensors", "parameters"]

Converted = tuple[TensorInfo, TensorSource]

_NOT_WEIGHTS = (".attention.masked_bias", ".attention.bias", ".rotary_emb.inv_freq")
"""Buffers of old checkpoints that follow from the configuration."""


def convert_tensors(arch: Architecture, config: Config, checkpoint: Checkpoint) -> list[Converted]:
    """All tensors, in the order of the GGUF. ModelError where they aren't those that llama.cpp loads."""
    layers = arch.layers(config)
    if layers > len(checkpoint.tensors):
        what = f"says that there are {layers} layers, but there are only {len(checkpoint.tensors)} tensors"
        config.fail(what)
    names = Names(arch.names_of or arch.name, layers, arch.names)
    made: dict[str, Converted] = {}
    taken: dict[str, str] = {}
    unknown: list[str] = []
    present = present_layers(arch, config)
    all_layers = arch.layout.present is None
    for stored, source in _expand(arch, config, checkpoint):
        name = names.gguf(stored)
        if name is None:
            unknown.append(stored)
            continue
        if not all_layers and (layer := layer_of(name)) is not None and layer not in present:
            continue
        if name in taken:
            what = f"{taken[name]!r} and {stored!r} would both be called {name!r}"
            raise ModelError(what, "delete one of them", file=config.folder)
        taken[name] = stored
        whole = layout.reshape(source, as_ggml_writes(source.shape))
        made[name] = as_tensor_info(whole, name), whole
    if unknown:
        raise ModelError(_unknown(arch, config, layers, unknown))
    check_tensors(arch, config, {name: info for name, (info, _) in made.items()}, taken, names)
    # last, since what it computes is only as sound as the sizes that were checked
    computed = {name: _computed(name, data) for name, data in arch.computed(config).items()}
    if both := sorted(computed.keys() & made.keys()):
        what = f"tensor {taken[both[0]]!r} follows from config.json, too"
        raise ModelError(what, "delete it from the checkpoint", file=config.folder)
    # What is copied block by block, the converter writes before it looks at anything else.
    return [*computed.values(), *sorted(made.values(), key=lambda it: it[0].dtype != "MXFP4")]


def _expand(arch: Architecture, config: Config, checkpoint: Checkpoint) -> Iterator[Named]:
    """Go through the tensors in the converter's order, and apply the rules."""
    rules = _Rules(arch.rules, config)
    for stored, source in _ordered(config, checkpoint):
        name = arch.rename(stored)
        if name is None or name.endswith(_NOT_WEIGHTS):
            continue
        name = arch.draft_name(config, name)
        if arch.leaves_out(config, name):
            continue
        if 0 in source.shape:
            check_storable(source)  # before a rule takes it to pieces
        yield from rules.apply(name, source)
    rules.finish(len(checkpoint.tensors))


def _ordered(config: Config, checkpoint: Checkpoint) -> list[Named]:
    place = {path: number for number, path in enumerate(checkpoint.files)}

    def where(item: Named) -> tuple[int, str]:
        name, source = item
        return next((place[extent.path] for extent in source.extents), 0), name  # a constant is in no file

    return sorted(weights_of(config, checkpoint).items(), key=where)


@dataclass(slots=True)
class _Waiting:
    """What a rule has of a layer so far, by the names that it waits for."""

    rule: Gather | Stack
    layer: int
    end: str  # of names: ".weight", or that of what belongs to weights of NVFP4
    experts: int  # of a Stack
    expected: int
    found: dict[tuple[int, str], TensorSource] = field(default_factory=dict)


class _Rules:
    """The rules of one conversion, and the tensors that wait for others."""

    def __init__(self, rules: Sequence[Rule], config: Config) -> None:
        self._config = config
        self._patterns: list[tuple[re.Pattern[str], Rule, int]] = []
        for rule in rules:
            names = rule.names if isinstance(rule, Gather) else (rule.names,)
            self._patterns += [(template(name), rule, place) for place, name in enumerate(names)]
        self._waiting: dict[tuple[int, int, str], _Waiting] = {}
        self._seen: set[int] = set()

    def apply(self, name: str, source: TensorSource) -> Iterable[Named]:
        """What comes of a tensor now: itself, others, or nothing yet."""
        for pattern, rule, place in self._patterns:
            if (match := pattern.fullmatch(name)) is None:
                continue
            texts = match.groupdict()
            if isinstance(rule, First):
                later = id(rule) in self._seen
                self._seen.add(id(rule))
                return () if later else ((rule.to, source),)
            if isinstance(rule, Each):
                return rule.make(Found(name=name, source=source, texts=texts, config=self._config))
            return self._hold(rule, place, name, texts, source)
        end = next((end for end in COMPANIONS if name.endswith(end)), None)
        if end is not None:
            for pattern, rule, place in self._patterns:
                match = pattern.fullmatch(f"{name.removesuffix(end)}.weight")
                if isinstance(rule, Stack) and match is not None:
                    return self._hold(rule, place, name, match.groupdict(), source, end)
        return ((name, source),)

    def _hold(
        self,
        rule: Gather | Stack,
        place: int,
        name: str,
        texts: Mapping[str, str],
        source: TensorSource,
        end: str = "",
    ) -> Iterable[Named]:
        layer = int(texts.get("layer", -1))
        # of what belongs to weights, each kind of matrix has it or not
        key = (id(rule), layer, end and texts["matrix"] + end)
        waiting = self._waiting.get(key)
        if waiting is None:
            experts = rule.count(self._config) if isinstance(rule, Stack) else 1
            waiting = _Waiting(rule, layer, end, experts, experts if end else experts * rule.each)
            self._waiting[key] = waiting
        if isinstance(rule, Stack):
            expert = int(texts["expert"])
            if expert >= waiting.experts:
                what = (
                    f"says {self._config.called(*rule.by)}: {waiting.experts}, but there is a tensor {name!r}"
                )
                self._config.fail(what, "correct it, or download the model again")
            waiting.found[expert, texts["matrix"]] = source
        else:
            waiting.found[place, ""] = source
        if len(waiting.found) < waiting.expected:
            return ()
        del self._waiting[key]
        if isinstance(rule, Stack):
            if end:
                return (rule.joined(layer, waiting.experts, waiting.found, end),)
            return rule.stacks(layer, waiting.experts, waiting.found)
        return rule.make(
            self._config, layer, tuple(waiting.found[number, ""] for number in range(waiting.expected))
        )

    def finish(self, tensors: int) -> None:
        """ModelError where tensors still wait for others, of a checkpoint with so many tensors."""
        if not self._waiting:
            return
        for waiting in self._waiting.values():
            if isinstance(waiting.rule, Stack) and waiting.experts > tensors:
                name = self._config.called(*waiting.rule.by)
                what = f"says {name}: {waiting.experts}, but there are only {tensors} tensors"
                self._config.fail(what, "correct it, or download the model again")
        raise ModelError(abridged(list(self._missing())))

    def _missing(self) -> Iterator[Problem]:
        for waiting in sorted(self._waiting.values(), key=lambda it: it.layer):
            remedy = "download the model again"
            if isinstance(waiting.rule, Stack):
                remedy += f", or correct {self._config.called(*waiting.rule.by)} in config.json"
                names = [
                    waiting.rule.name(waiting.layer, expert, matrix)
                    for expert, matrix in product(range(waiting.experts), waiting.rule.matrices())
                    if (expert, matrix) not in waiting.found
                ]
            else:
                names = [
                    name.format(layer=waiting.layer)
                    for place, name in enumerate(waiting.rule.names)
                    if (place, "") not in waiting.found
                ]
            for name in names:
                yield Problem(what=f"tensor {name!r} is missing", remedy=remedy, file=self._config.folder)


def _computed(name: str, found: Computed) -> Converted:
    values = np.frombuffer(found, "<f4") if isinstance(found, bytes) else found.astype("<f4")
    source = Constant(name=name, shape=values.shape, dtype="F32", data=values.tobytes())
    return TensorInfo.from_name(name, source.shape, source.dtype), source


def _unknown(arch: Architecture, config: Config, layers: int, names: list[str]) -> Sequence[Problem]:
    return abridged(
        [
            Problem(
                what=f"tensor {name!r} is none that a {arch.name} of {layers} layers has",
                remedy="convert it with llama.cpp's converter to a BF16 GGUF, and give that",
                file=config.path,
            )
            for name in names
        ]
    )


def parameters(tensors: list[Converted]) -> tuple[int, int, int, int]:
    """Weights in all, shared by all tokens, of one expert; and the number of experts: what a size label is made of."""
    total = shared = expert = experts = stacks = 0
    for info, _ in tensors:
        total += info.size
        if "_exps." in info.name and len(info.shape) >= 3:
            expert += prod(info.shape[-2:])
            experts += info.shape[-3]
            stacks += 1
        else:
            shared += info.size
    return total, shared, expert, experts // stacks if stacks else 0
