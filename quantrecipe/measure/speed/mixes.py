"""Measuring speed: files of a few layers in one mix after the other, timed by llama.cpp, until the time is over.

    uniform     everything in one type
    one role    one role in the type, the others in Q8_0; not for the largest role, which the uniform file tells
    narrower    Q8_0 with a quarter of the vocabulary, and that with fewer layers: for the head, and for the constant

Every mix is timed once, then all of them again, and so on. Each is timed in turns with the uniform file of Q8_0, which
stays open (see `beside`), and counts with the median of its turns.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path
from time import monotonic
from typing import Protocol

from quantrecipe.core.processors import usable_processors
from quantrecipe.engine import Engine, EngineFacts
from quantrecipe.engine.session import Log
from quantrecipe.errors import EvaluationError, QuantrecipeError
from quantrecipe.importance.coverage import assumed_importance
from quantrecipe.measure.speed.beside import Beside, Times, median
from quantrecipe.measure.speed.few_layers import Cut, choose_cut, cut_model
from quantrecipe.measure.speed.random_file import RandomRows, write_random
from quantrecipe.measure.speed.rates import Amounts, Timed, rates_of
from quantrecipe.model.model import Model
from quantrecipe.output.work_folder import work_folder
from quantrecipe.plan.plan import Plan
from quantrecipe.plan.plan_of import plan_of
from quantrecipe.plan.resolution import PlanSettings, resolve
from quantrecipe.recipe.load import load_part
from quantrecipe.recipe.reading.recipe_part import RecipePart
from quantrecipe.recipe.recipe import Rule
from quantrecipe.recipe.writing.new_recipe import write_recipe
from quantrecipe.registry import Registry
from quantrecipe.speed.clock import Needs
from quantrecipe.speed.profile import ROLES, Profile, Role, role_of, shapes_digest

__all__ = ["BASE", "Measured", "SpeedProgress", "Way", "measure_speed", "mix_plan"]

BASE = "Q8_0"
"""What the other roles have while one has the type: every width takes it, and every device runs it."""

_TABLES = ("token_embd", "per_layer_token_embd")  # of which a token reads its row
_PROMPT: Mapping[str, int] = {"cpu": 64, "gpu": 512}
"""Tokens: a processor is about as quick with 64 as with 512, which would take seconds; a GPU isn't."""


class SpeedProgress(Protocol):
    """Hears how far measuring is."""

    def timing(self, number: int, total: int, what: str) -> None:
        """A file is made and timed next. number, total: within the round, from 1; what: its mix"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Way:
    """How llama.cpp runs the files. gpu: with all layers on the GPU; threads: None for all processors"""

    engine: Engine
    facts: EngineFacts
    processor: str
    gpu: bool = False
    threads: int | None = None
    log: Log | None = None

    @property
    def device(self) -> str:
        """Name of the GPU; "" where the processor is measured. EvaluationError where the engine knows no GPU."""
        if not self.gpu:
            return ""
        gpus = [device.description or device.name for device in self.facts.devices if not device.is_cpu]
        if not gpus:
            what = "this llama.cpp can use no GPU here"
            remedy = "--gpu-layers 0 measures the processor; `quantrecipe doctor` shows what the engine finds"
            raise EvaluationError(what, remedy, file=self.engine.library)
        return gpus[0]


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """What was found. turns: how often each mix was timed, at least; left_out: types that weren't, and why"""

    profile: Profile
    turns: int
    left_out: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Mix:
    """A type for each role, and how much of the model there is."""

    types: tuple[tuple[Role, str], ...]
    cut: Cut
    about: str


def measure_speed(
    model: Model,
    types: Sequence[str],
    registry: Registry,
    way: Way,
    *,
    name: str,
    seconds: float,
    folder: Path | None = None,
    progress: SpeedProgress | None = None,
) -> Measured:
    """Time the types in all roles that the model has, from its headers alone.

    name:    what the model is called in what is kept
    seconds: after which no further file is begun
    folder:  where the files are made, one at a time; None for the system's folder of temporary files
    EvaluationError where the engine doesn't run such a model, or the time isn't enough for a single type.
    """
    full, narrow, small = choose_cut(model)
    device = way.device
    end = monotonic() + seconds
    tokens = _PROMPT["gpu" if way.gpu else "cpu"]
    base = _Mix(tuple((role, BASE) for role in ROLES), full, BASE)
    first = replace(base, cut=narrow), replace(base, cut=small)
    measurer = _Measurer(model, registry)
    roles = measurer.largest(full)
    per_type = {
        type_: tuple(
            mix for mix in _mixes(type_, base, roles) if measurer.amounts(mix) != measurer.amounts(base)
        )
        for type_ in types
        if type_ != BASE
    }
    groups = {"": first, **per_type}
    left_out: dict[str, str] = {}
    with work_folder(folder or Path(tempfile.gettempdir()), "speed") as place:
        open_path, path = place / "base.gguf", place / "mix.gguf"
        measurer.write(base, open_path)
        with Beside(
            path=open_path, prompt=tokens, engine=way.engine, threads=way.threads, gpu=way.gpu, log=way.log
        ) as beside:
            found = _ratios(groups, beside, measurer, path, end, left_out, progress)
            quickest = beside.quickest
    for type_, mixes in per_type.items():
        if not all(mix in found for mix in mixes):
            left_out.setdefault(type_, "the time was over before")
    done = [mix for type_, mixes in groups.items() if type_ not in left_out for mix in mixes]
    if not all(mix in found for mix in first) or (per_type and len(done) == len(first)):
        reasons = [why for why in left_out.values() if not why.startswith("the time")]
        what = reasons[0] if reasons else f"{seconds:.0f} seconds aren't enough to time one type"
        raise EvaluationError(what, "allow more (--minutes), or name other types (--types)", file=model.path)
    found[base] = [Times(token=1.0, prompt=1.0)]
    turns = min(len(found[mix]) for mix in done)
    done = [base, *done]
    token, misfit = rates_of(
        [
            Timed(
                amounts=measurer.amounts(mix),
                seconds=quickest.token * median(found[mix], attrgetter("token")),
            )
            for mix in done
        ]
    )
    of_prompts = []
    for mix in done:
        last = measurer.amounts(mix, last=True)
        once = sum(amount * token.by[type_][role] for (type_, role), amount in last.items())
        whole = quickest.prompt * median(found[mix], attrgetter("prompt"))
        amounts = measurer.amounts(mix, prompt=True)
        of_prompts.append(Timed(amounts=amounts, seconds=max(whole - once / tokens, whole / 2)))
    prompt, also = rates_of(of_prompts)
    embedding = next((tensor for tensor in model.tensors if tensor.role == "token_embd"), None)
    profile = Profile(
        processor=way.processor,
        device=device,
        threads=way.threads or usable_processors(),
        engine=way.facts.version,
        model=name,
        shapes=shapes_digest(model),
        width=max(1, model.number("embedding_length", 0 if embedding is None else embedding.cols)),
        token=token,
        prompt=prompt,
        tokens=tokens,
        misfit=max(misfit, also),
        made=datetime.now(UTC).replace(microsecond=0),
    )
    return Measured(profile=profile, turns=turns, left_out=left_out)


def _ratios(
    groups: Mapping[str, Sequence[_Mix]],
    beside: Beside,
    measurer: _Measurer,
    path: Path,
    end: float,
    left_out: dict[str, str],
    progress: SpeedProgress | None,
) -> dict[_Mix, list[Times]]:
    """What each mix was timed as, round after round until the time is over; types that don't run go to `left_out`."""
    found: dict[_Mix, list[Times]] = {}
    total = sum(map(len, groups.values()))
    while not found or monotonic() < end:
        number = 0
        for type_, mixes in groups.items():
            for mix in mixes:
                number += 1
                if type_ in left_out or (found and monotonic() >= end):
                    continue
                if progress is not None:
                    progress.timing(number, total, mix.about)
                try:
                    measurer.write(mix, path)
                    found.setdefault(mix, []).extend(beside.ratios(path))
                except QuantrecipeError as error:
                    if not type_:
                        raise
                    left_out[type_] = error.problems[0].what
    return found


def _mixes(type_: str, base: _Mix, largest: tuple[Role, ...]) -> Iterator[_Mix]:
    """The mixes of a type; `largest`: the roles that there are, that of the most bytes first."""
    yield replace(base, types=tuple((role, type_) for role in ROLES), about=type_)
    for only in largest[1:]:
        types = tuple((role, type_ if role == only else BASE) for role in ROLES)
        yield replace(base, types=types, about=f"{type_}, {only}")


class _Measurer:
    """What holds for all mixes of a model: plans, and rows that were encoded."""

    def __init__(self, model: Model, registry: Registry) -> None:
        self._model, self._registry = model, registry
        self._rows = RandomRows()
        self._cuts: dict[Cut, Model] = {}

    def write(self, mix: _Mix, path: Path) -> None:
        """Make the file of a mix."""
        write_random(self._plan(mix), path, self._rows)

    def amounts(self, mix: _Mix, *, prompt: bool = False, last: bool = False) -> Amounts:
        """What a token needs of each type in each role: bytes, or weights where it is one of a prompt.

        last: bytes of what only the last token of a prompt goes through
        """
        needs = Needs(self._cut(mix.cut))
        found: dict[tuple[str, Role], int] = {}
        for a in self._plan(mix).assignments:
            if len(a.tensor.shape) < 2 or a.copied or (last and not needs.only_last(a.tensor)):
                continue
            key = (a.type, needs.role(a.tensor))
            amount = needs.prompt(a.tensor) if prompt else needs.answer(a.tensor, a.nbytes)
            found[key] = found.get(key, 0) + amount
        return found

    def largest(self, cut: Cut) -> tuple[Role, ...]:
        """The roles that there are, that of which a token reads most first."""
        of_base = _Mix(tuple((role, BASE) for role in ROLES), cut, "")
        sizes: dict[Role, int] = {}
        for (_, role), amount in self.amounts(of_base).items():
            sizes[role] = sizes.get(role, 0) + amount
        return tuple(sorted(sizes, key=lambda role: -sizes[role]))

    def _cut(self, cut: Cut) -> Model:
        if cut not in self._cuts:
            self._cuts[cut] = cut_model(self._model, cut)
        return self._cuts[cut]

    def _plan(self, mix: _Mix) -> Plan:
        return mix_plan(self._cut(mix.cut), dict(mix.types), self._registry)


def mix_plan(model: Model, types: Mapping[Role, str], registry: Registry) -> Plan:
    """A plan with a type for each role; what can't have its type gets that of its fallback.

    A head in a type that nobody makes without importance, which heads don't have, is one of `BASE`.
    """
    head = types["head"]
    if registry.formats[head].spec.importance == "required":
        head = BASE
    there = {role_of(t, model.head) for t in model.tensors if len(t.shape) > 1 and t.role != "ffn_gate_inp"}
    tables = [name for name in _TABLES if f"{name}.weight" != model.head]
    rules = [
        Rule.of(["head"], type=head),
        Rule.of(tables, type=BASE, optional=True),
        *([Rule.of(["regex:_(ch)?exps\\."], type=types["experts"])] if "experts" in there else []),
        *([Rule.of(["regex:ffn_"], type=types["feed-forward"])] if "feed-forward" in there else []),
        Rule.of(["regex:."], type=types["attention"], optional=True),
    ]
    part = RecipePart(file="speed", name="speed", rules=tuple(rules), fallback="chain")
    _, placed = write_recipe(part)
    recipe = load_part(placed, registry=registry)
    settings = PlanSettings(strict=False, allow_requantize=True, provenance=False, split=None)
    return plan_of(resolve(recipe, model, registry, assumed_importance(model.tensors), settings))
