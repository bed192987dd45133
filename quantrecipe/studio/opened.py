"""Opened: a model that is open, and what all its mixes have in common, so that a move of the slider takes little time.

What is read is headers. Losses, the presets and what is open to each tensor are computed once, when the model is
opened. Where how much tensors matter wasn't measured, types are judged from where the best preset within the limits
stands (`fit.doubt`); each preset's view is computed when it is needed first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from quantrecipe.allocate.allocate import Choices, choices
from quantrecipe.allocate.as_knapsack import Choosable
from quantrecipe.allocate.losses import Losses
from quantrecipe.errors import ImportanceError, ModelError, PlanError, SensitivityError
from quantrecipe.fit.doubt import Regrets, cost_seen_from, doubtful
from quantrecipe.fit.mixer import Mixer
from quantrecipe.fit.offered_types import offered_types
from quantrecipe.fit.request import Request
from quantrecipe.fit.stock import Mix, Rules, estimated_loss, recipe_like, stock_mixes, stock_recipes
from quantrecipe.importance.coverage import assumed_importance
from quantrecipe.importance.matrix import Importance
from quantrecipe.memory.footprint import Room, Runs
from quantrecipe.model.model import Model
from quantrecipe.model.not_a_model import require_model
from quantrecipe.model.open_model import open_model
from quantrecipe.model.stem import model_stem
from quantrecipe.pictures.layer_map import folded_role
from quantrecipe.plan.importance import require_matrix_of
from quantrecipe.plan.plan import Plan
from quantrecipe.plan.resolution import PlanSettings, resolve
from quantrecipe.plan.review.sides import fates_of
from quantrecipe.planning import make_plan
from quantrecipe.recipe.budget import Budget
from quantrecipe.recipe.origin import Origin
from quantrecipe.recipe.recipe import Recipe
from quantrecipe.registry import Registry
from quantrecipe.sensitivity.sensitivity import Sensitivity
from quantrecipe.speed.here import speeds_here
from quantrecipe.speed.profile import Place, Profile

__all__ = [
    "ORIGIN",
    "UNKNOWN",
    "Base",
    "Knowledge",
    "Opened",
    "Stored",
    "open_for_studio",
    "tensors_of",
]

ORIGIN = Origin(file="studio", line=1)
"""The place of a budget that the slider gives."""
UNKNOWN = 1 << 62
"""Bytes of a memory that nobody spoke of, so that it never lacks."""

_VIEWS = 8  # presets' views that are kept: a slider goes back and forth between a few
_BASES = 8  # plans to compare with that are kept


@dataclass(frozen=True, kw_only=True, slots=True)
class Knowledge:
    """What the command line says for whichever model is opened.

    another_model: the matrix may say that it is another model's
    """

    registry: Registry
    importance: Importance | None = None
    another_model: bool = False
    sensitivity: Sensitivity | None = None
    allow_requantize: bool = False


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor in a plan, as far as it is shown. label: its type, with options that aren't the usual ones"""

    role: str
    type: str
    label: str
    size: int
    nbytes: int


def tensors_of(plan: Plan) -> dict[str, Stored]:
    """What is shown of each tensor of a plan, by its name."""
    return {
        name: Stored(folded_role(fate.tensor), fate.type, fate.label, fate.tensor.size, fate.nbytes)
        for name, fate in fates_of(plan).items()
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class Base:
    """What a mix is compared with. loss: that is expected of it"""

    ref: str
    plan: Plan
    tensors: Mapping[str, Stored]
    loss: float


@dataclass(slots=True)
class _View:
    """What is open, and its items for one kind of goal."""

    open_: Choices
    goal: object = None
    items: Sequence[Choosable] = ()


@dataclass(kw_only=True, slots=True)
class Opened:
    """A model that is open. Its methods are called by one thread.

    stem:     what its files are called after
    types:    on offer, the smallest first
    losses:   what is expected to be lost: what mixes are compared by
    open_:    what is open to each tensor, by those losses
    best:     the plan with the best types everywhere
    presets:  that can be made of it, the smallest first
    room:     bytes that a recipe of the slider's mixes takes in the file beside the one that leaves all open; what more
              is needed is learnt from recipes that are made
    notes:    what is to be known of all this, as sentences
    """

    knows: Knowledge
    model: Model
    stem: str
    importance: Importance | None
    sensitivity: Sensitivity | None
    types: tuple[str, ...]
    losses: Losses
    open_: Choices
    best: Plan
    presets: tuple[Mix, ...]
    speeds: Mapping[Place, Profile]
    notes: tuple[str, ...]
    room: int = 0
    runs: Runs = field(init=False)
    in_doubt: bool = field(init=False)
    _regrets: Regrets = field(init=False)
    _views: OrderedDict[str, _View] = field(default_factory=OrderedDict)
    _bases: OrderedDict[str, Base] = field(default_factory=OrderedDict)

    def __post_init__(self) -> None:
        self.runs = Runs(self.model, Room(gpu=UNKNOWN, ram=UNKNOWN))
        self.in_doubt = doubtful(self.losses, self.model)
        self._regrets = Regrets(self.presets, self.losses)

    @property
    def smallest(self) -> Plan:
        """The plan with the smallest types everywhere."""
        return self.open_.smallest

    @property
    def missing(self) -> Path | None:
        """The first of its files that isn't there any more; None where all are."""
        return next((path for path in (self.model.files or ()) if not path.exists()), None)

    def rival(self, keeping: tuple[Mix, ...]) -> Mix | None:
        """Of the presets that keep the limits, the one that loses least as far as the estimate can tell."""
        return self._regrets.least(keeping)

    def view(self, rival: Mix | None, goal: object, budget: Budget) -> tuple[Choices, Sequence[Choosable]]:
        """What is open to each tensor, by the losses that types are chosen by where this preset is the rival; and the
        same as items of a knapsack.

        goal: equal for budgets that have the same items
        """
        name = "" if rival is None or not self.in_doubt else rival.name
        if (view := self._views.get(name)) is None:
            open_ = self.open_
            if rival is not None and name:
                open_ = open_.seen_by(cost_seen_from(rival.plan, self.losses))
            view = self._views[name] = _View(open_)
            while len(self._views) > _VIEWS:
                self._views.popitem(last=False)
        self._views.move_to_end(name)
        if view.goal != goal:
            view.goal, view.items = goal, view.open_.items(budget)
        return view.open_, view.items

    def mixer(self, budget: Budget, rules: Rules, rival: Mix | None) -> Mixer:
        """What makes frozen recipes for a budget: that of `fit`."""
        return Mixer(
            model=self.model,
            request=Request(
                name=self.stem,
                budget=budget,
                allow_requantize=self.knows.allow_requantize,
                asked_in="quantrecipe studio",
            ),
            registry=self.knows.registry,
            importance=self.importance,
            statistics=None,
            types=self.types,
            losses=self.losses,
            rules=rules,
            best=rival,
        )

    def plan(self, recipe: Recipe, importance: Importance | None = None) -> Plan:
        """The plan of any recipe. Errors as `make_plan`."""
        return make_plan(
            recipe,
            self.model,
            registry=self.knows.registry,
            importance=importance or self.importance,
            importance_of_another_model=True,  # whose it is was asked when the model was opened
            allow_requantize=self.knows.allow_requantize,
            sensitivity=self.sensitivity,
        )

    def base(self, ref: str) -> Base:
        """What a recipe makes of the model; without a matrix as if there were one, since sizes don't depend on it."""
        if ref not in self._bases:
            recipe = recipe_like(ref, self.knows.registry)
            assumed = None if self.importance is not None else assumed_importance(self.model.tensors)
            plan = self.plan(recipe, assumed)
            self._bases[ref] = Base(
                ref=ref, plan=plan, tensors=tensors_of(plan), loss=estimated_loss(plan, self.losses)
            )
            while len(self._bases) > _BASES:
                self._bases.popitem(last=False)
        self._bases.move_to_end(ref)
        return self._bases[ref]


def open_for_studio(path: str | Path, knows: Knowledge) -> Opened:
    """Open a model, and compute what its mixes have in common.

    ModelError where there is none, PlanError where there is nothing to choose. A matrix or losses that are of another
    model are left out, and the notes say so.
    """
    registry = knows.registry
    model = open_model(path, registry=registry)
    require_model(model)
    if not model.arch:
        what = "doesn't say which architecture it is"
        raise ModelError(what, "put the model's config.json beside it", file=model.path)
    notes = []
    importance, sensitivity = knows.importance, knows.sensitivity
    try:
        if not knows.another_model:
            require_matrix_of(model, importance)
    except ImportanceError:
        importance = None
        notes.append("The importance matrix is of another model, so this one is planned without.")
    try:
        losses = Losses(model, registry, sensitivity, {})
    except SensitivityError:
        sensitivity = None
        losses = Losses(model, registry, None, {})
        notes.append("The sensitivity file is of another model, so typical losses are used for this one.")
    types = offered_types(registry, (), None)
    mixer = Mixer(
        model=model,
        request=Request(name=model_stem(Path(model.path)), budget=Budget(origin=ORIGIN)),
        registry=registry,
        importance=importance,
        statistics=None,
        types=types,
        losses=losses,
        rules=Rules(limits=(), floors=(), ties=(), types=None),
    )
    settings = PlanSettings(allow_requantize=knows.allow_requantize)
    resolution = resolve(mixer.opened(Budget(origin=ORIGIN)), model, registry, importance, settings)
    if not resolution.open:
        raise PlanError(
            f"there is nothing to choose: none of its {len(model.tensors):,} tensors is a matrix that recipes quantize",
            "choose another model",
            file=model.path,
        )
    open_ = choices(resolution, losses)
    mixes, left_out = stock_mixes(
        stock_recipes(registry), model, registry, importance, losses, allow_requantize=knows.allow_requantize
    )
    if importance is None and left_out:
        notes.append(
            f"Without an importance matrix, {len(left_out)} of llama-quantize's mixes can't be made; name one with "
            "--imatrix."
        )
    opened = Opened(
        knows=knows,
        model=model,
        stem=mixer.request.name,
        importance=importance,
        sensitivity=sensitivity,
        types=types,
        losses=losses,
        open_=open_,
        best=open_.best(),
        presets=tuple(mixes),
        speeds=speeds_here(model),
        notes=tuple(notes),
    )
    if opened.in_doubt:
        opened.notes += (
            "How much tensors matter wasn't measured on this model, but taken as usual: `quantrecipe sensitivity` "
            "measures it.",
        )
    return opened
