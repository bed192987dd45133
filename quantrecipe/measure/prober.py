"""Prober: what the model's output does when some tensors are rounded to lower types, by the real engine.

A probe changes the tensors that it asks about in the resident model, runs it over the calibration text, and compares
with what it said before; the next one restores them. So a probe costs a forward pass, and the rounding of the tensors
that change. Its figure is a difference to the same model: what its type does to all other weights is on both sides.

With an executor (`Passes.executor`), workers have resident models, and probes that are expected are made meanwhile (see
`by_executor`). What is asked, known and saved is the same, and this process alone saves it.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import xxhash
from numpy.typing import NDArray

from quantrecipe.api import Change, Effect, Reduce
from quantrecipe.importance.matrix import Importance
from quantrecipe.layer_ranges import layer_ranges
from quantrecipe.measure.encoded import Encoding
from quantrecipe.measure.mixed import Mixed, mixed
from quantrecipe.measure.open_resident import open_resident
from quantrecipe.measure.passes import RESIDENT_TYPES, WHOLE, Part, Passes
from quantrecipe.measure.progress import Progress
from quantrecipe.measure.resident import Moved, Resident, Setting, Wish, wishes_of
from quantrecipe.model.model import Model
from quantrecipe.output.work_folder import remove_left, work_folder
from quantrecipe.plan.plan import Plan
from quantrecipe.plan.plan_of import plan_of
from quantrecipe.plan.resolution import PlanSettings, resolve
from quantrecipe.recipe.load import load_part
from quantrecipe.recipe.reading.recipe_part import RecipePart
from quantrecipe.recipe.recipe import EncoderChoice, Rule
from quantrecipe.recipe.writing.new_recipe import write_recipe
from quantrecipe.registry import Registry
from quantrecipe.sensitivity.sensitivity import Probed, rounded
from quantrecipe.tensor import split_name

if TYPE_CHECKING:
    from quantrecipe.measure.by_executor import ProbesElsewhere

__all__ = ["BASE_RECIPE", "Prober", "describe"]

BASE_RECIPE = "pure/Q8_0"
"""Whose default is about the matrices that can be probed."""

_VERSION = 3
"""Of the way in which probes are made; part of what they are known by."""

_FOLDER = "probes"


class Prober:
    """Evaluates; a context manager, which closes the model and removes its files when it is left."""

    def __init__(
        self,
        model: Model,
        registry: Registry,
        importance: Importance | None,
        passes: Passes,
        *,
        digests: Mapping[str, str],
        folder: Path,
        known: Mapping[str, Probed],
        save: Callable[[Probed], None],
        progress: Progress,
        encoding: Encoding | None = None,
        known_mixes: Mapping[str, Mixed] | None = None,
        save_mix: Callable[[Mixed], None] = lambda found: None,
    ) -> None:
        """digests: of the content of the tensors; known: probes of earlier runs, by key; save: hears of new ones.

        encoding: makes the bytes of what `evaluate` rounds; mixes have their own plans.
        """
        self._model, self._registry, self._importance, self._passes = model, registry, importance, passes
        self._encoding = encoding
        self._digests = digests
        self._folder = folder
        self._known, self._mixes = dict(known), dict(known_mixes or {})
        self._save, self._save_mix = save, save_mix
        self._progress = progress
        self._stack = ExitStack()
        self._opened: Resident | None = None
        self._elsewhere: ProbesElsewhere | None = None
        self._work: list[Path] = []  # the temporary folder, once there is one
        self._mix_type = ""  # of the resident model of all mixes: only such ones are compared
        self.probes: list[Probed] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._opened is None:  # an earlier run has answered all, and was killed before its folder was gone
            remove_left(self._folder, _FOLDER)
        self._stack.close()

    def evaluate(self, types: Mapping[str, str]) -> Effect:
        """What these tensors' rounding to these types does to the output."""
        return self._evaluated(types, WHOLE)

    def evaluate_part(self, types: Mapping[str, str], number: int) -> Effect:
        """The same on the part of the text that has this number."""
        return self._evaluated(types, self._passes.part(number))

    def _evaluated(self, types: Mapping[str, str], part: Part) -> Effect:
        wishes, asked = self._asking(types, part)
        probed = self._earlier(asked)
        if probed is None:
            what = describe(types)
            self._progress.say(what)
            probed = self._new(asked, what, self._moved(asked, wishes, part, what), part)
        return self._used(probed)

    def expect(self, asks: Iterable[tuple[Mapping[str, str], int | None]]) -> None:
        """Begin what will probably be asked next, on a part of the text or on all of it (None), likeliest first.

        The first is what is asked next. As many are taken as there are workers.
        """
        for number, (types, place) in enumerate(asks):
            part = WHOLE if place is None else self._passes.part(place)
            wishes, asked = self._asking(types, part)
            if self._earlier(asked) is None:
                self._workers.expect(self._key(asked, self._type), wishes, part, describe(types))
            elif not number:  # it is known, and so may those be that come next
                return
            if number + 1 >= self._workers.width:
                return

    def expect_mixes(self, plans: Iterable[tuple[Plan, str]]) -> None:
        """The same of mixes, each with its name."""
        for number, (plan, what) in enumerate(plans):
            wishes = wishes_of(plan)
            asked = _mixing(wishes)
            if self._earlier_mix(asked) is None:
                self._open_for_mixes()
                self._workers.expect_mix(self._key(asked, self._type), wishes, what)
            elif not number:
                return
            if number + 1 >= self._workers.width:
                return

    @property
    def expects(self) -> bool:
        """True where several probes can be made at the same time, so that it is worth to say what to expect."""
        return self._passes.executor is not None

    @property
    def at_once(self) -> int:
        """How many probes or mixes can be made at the same time now. Opens the model in workers."""
        return self._workers.width if self.expects else 1

    def swap(self, changes: Mapping[str, Change]) -> Effect:
        """What the output does when these tensors have other weights."""
        what = describe(dict.fromkeys(changes, "other weights"))
        self._progress.say(what)
        asked = _changing(self._resident.change(changes))
        probed = self._earlier(asked) or self._new(asked, what, self._resident.measure(), here=True)
        return self._used(probed)

    @property
    def parts(self) -> int:
        """How many parts of the text there are for `evaluate_part`."""
        return self._passes.parts

    def mix(self, plan: Plan | None, what: str) -> Mixed:
        """What the output does with all that a plan quantizes; None: when nothing is."""
        wishes = {} if plan is None else wishes_of(plan)
        asked = _mixing(wishes)
        if (known := self._earlier_mix(asked)) is not None:
            return known
        self._progress.say(what)
        self._open_for_mixes()
        key = self._key(asked, self._type)
        if self.expects:
            found = self._workers.mixed(key, wishes, what)
        else:
            resident = self._resident
            resident.change(wishes)
            found = mixed(key, what, resident.type, resident.score(), resident.blocks)
        self._mixes[key] = found
        self._save_mix(found)
        return found

    def look(self, function: Reduce, names: Sequence[str]) -> Mapping[str, NDArray[np.float64]]:
        """What `function` makes of the inputs of these matrices, summed over the text."""
        self._progress.say(f"the inputs of {len(names)} matrices")
        return self._resident.inputs(names, function)

    def _asking(self, types: Mapping[str, str], part: Part) -> tuple[Mapping[str, Wish], list[Any]]:
        """What becomes of the tensors, and all that the figure depends on."""
        wishes = types if self._encoding is None else self._planned(types, self._encoding)
        asked = self._rounding(types) if self._encoding is None else _encodings(wishes)
        return wishes, asked if part == WHOLE else [["part", part.every, part.first], *asked]

    def _moved(self, asked: Sequence[Any], wishes: Mapping[str, Wish], part: Part, what: str) -> Moved:
        if self.expects:
            return self._workers.moved(self._key(asked, self._type), wishes, part, what)
        self._resident.change(wishes)
        return self._resident.measure(part)

    @property
    def _resident(self) -> Resident:
        if self._opened is None:
            self._opened = open_resident(self._setting(), self._digests, self._stack)
        return self._opened

    @property
    def _workers(self) -> ProbesElsewhere:
        if self._elsewhere is None:
            from quantrecipe.measure.by_executor import ProbesElsewhere

            self._elsewhere = ProbesElsewhere(self._setting(), self._digests, self._stack)
        return self._elsewhere

    def _setting(self) -> Setting:
        if not self._work:
            self._work.append(self._stack.enter_context(work_folder(self._folder, _FOLDER)))
        passes = replace(self._passes, resident=self._mix_type) if self._mix_type else self._passes
        return Setting(
            model=self._model,
            registry=self._registry,
            importance=self._importance,
            passes=passes,
            folder=self._work[0],
            progress=self._progress,
        )

    @property
    def _type(self) -> str:
        """Of the resident model, which is opened for it, here or elsewhere."""
        return self._workers.type if self.expects else self._resident.type

    def _open_for_mixes(self) -> None:
        """Only mixes in resident models of one type are compared."""
        self._mix_type = self._type

    def _earlier_mix(self, asked: Sequence[Any]) -> Mixed | None:
        for key in self._keys(asked):
            if key in self._mixes and self._mix_type in ("", self._mixes[key].resident):
                self._mix_type = self._mixes[key].resident
                return self._mixes[key]
        return None

    def _earlier(self, asked: Sequence[Any]) -> Probed | None:
        """A probe of before, by the resident model that is open, else by the most exact one.

        Which type is resident depends on the memory that was free; a run that goes on later measures nothing twice.
        """
        return next((self._known[key] for key in self._keys(asked) if key in self._known), None)

    def _keys(self, asked: Sequence[Any]) -> Iterator[str]:
        """By the resident model that is open, then by the most exact one."""
        opened = self._elsewhere or self._opened
        first = () if opened is None else (opened.type,)
        return (self._key(asked, resident) for resident in (*first, *RESIDENT_TYPES))

    def _new(
        self, asked: Sequence[Any], what: str, moved: Moved, part: Part = WHOLE, *, here: bool = False
    ) -> Probed:
        """What a probe found, as it is kept. here: in the resident model of this process"""
        resident = self._resident.type if here else self._type
        probed = Probed(
            key=self._key(asked, resident),
            what=what,
            kld=rounded(moved.kld),
            standard_error=rounded(moved.standard_error),
            resident=resident,
            floor=rounded(moved.floor),
            part="" if part == WHOLE else f"{part.first + 1}/{part.every}",
        )
        self._known[probed.key] = probed
        self._save(probed)
        return probed

    def _used(self, probed: Probed) -> Effect:
        probed = replace(probed, used=True)
        if probed not in self.probes:
            self.probes.append(probed)
        return Effect(kld=probed.kld, standard_error=probed.standard_error)

    def _key(self, asked: Sequence[Any], resident: str) -> str:
        # All that the figure depends on: a probe is known again by this, also in the file of another run.
        content: list[Any] = [_VERSION, resident, [text.digest for text in self._passes.texts]]
        content += [self._passes.chunks, self._passes.n_ctx, sorted(self._digests.items()), *asked]
        return xxhash.xxh3_128_hexdigest(json.dumps(content, separators=(",", ":")).encode())

    def _planned(self, types: Mapping[str, str], encoding: Encoding) -> dict[str, Wish]:
        """These types as a recipe with the encoder makes them."""
        encoder = encoding.encoder
        rules = tuple(
            Rule.of([f"regex:^{name.replace('.', '[.]')}$"], type=type_, optional=True)
            for name, type_ in types.items()
        )
        choice = EncoderChoice(name=encoder.name, options=encoder.options)
        _, part = write_recipe(RecipePart(file="a probe", name="a probe", rules=rules, encoder=choice))
        settings = PlanSettings(allow_requantize=True, provenance=False)
        recipe = load_part(part, registry=self._registry)
        plan = plan_of(
            resolve(
                recipe,
                self._model,
                self._registry,
                self._importance,
                settings,
                statistics=encoding.statistics,
            )
        )
        return {name: wish for name, wish in wishes_of(plan).items() if name in types}

    def _rounding(self, types: Mapping[str, str]) -> list[Any]:
        """What a rounding depends on, besides the model and the text."""
        matrix, content = self._importance, list[Any]()
        for name, type_ in sorted(types.items()):
            entry = None if matrix is None else matrix.entries.get(name)
            version = self._registry.format(type_).spec.version
            content.append([name, type_, version, None if entry is None else entry.digest])
        return content


def _encodings(wishes: Mapping[str, Any]) -> list[Any]:
    """What plans make of tensors: type, options, importance, encoder and statistics are in the digest."""
    return [[name, wish.assignment.encoding] for name, wish in sorted(wishes.items())]


def _mixing(wishes: Mapping[str, Any]) -> list[Any]:
    return [["mix", *it] for it in _encodings(wishes)]


def _changing(digests: Mapping[str, str]) -> list[Any]:
    """What other weights depend on: themselves."""
    return [["weights", name, digest] for name, digest in sorted(digests.items())]


def describe(types: Mapping[str, str]) -> str:
    """Tensors and their types in a few words: "attn_v, layers 0-3 → Q3_K"."""
    layers: dict[str, list[int]] = defaultdict(list)
    for name in types:
        layer, role = split_name(name)
        layers[role] += [] if layer is None else [layer]
    groups: dict[str, list[str]] = defaultdict(list)
    for role, numbers in layers.items():
        groups[_layers_text(numbers)].append(role)
    parts = [", ".join(roles) + (f", {text}" if text else "") for text, roles in groups.items()]
    return f"{'; '.join(parts)} → {', '.join(sorted(set(types.values())))}"


def _layers_text(numbers: Sequence[int]) -> str:
    """ "layers 0-2, 5"; "" for none."""
    if not numbers:
        return ""
    return f"{'layer' if len(set(numbers)) == 1 else 'layers'} {layer_ranges(numbers)}"
