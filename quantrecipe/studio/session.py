"""Session: the models that are open in a studio, and what the command line said."""

from __future__ import annotations

import gc
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from time import perf_counter
from typing import Any, TypeVar

from quantrecipe import __version__
from quantrecipe.errors import ModelError
from quantrecipe.fit.stock import MIXES, PREFIX
from quantrecipe.model.open_model import open_model
from quantrecipe.model.reference_models import reference_models
from quantrecipe.pictures.layer_map import folded_role
from quantrecipe.recipe.budget import KV_TYPES
from quantrecipe.recipe.load import load_recipe
from quantrecipe.recipe.shipped_recipes import shipped_recipes
from quantrecipe.registry import Registry
from quantrecipe.studio.completion import Completion, complete, schema_for
from quantrecipe.studio.document import Shown, model_document, plan_document
from quantrecipe.studio.editing import What, edited, made_file, problem_documents
from quantrecipe.studio.moves import Goal, frozen, learn_room, moved
from quantrecipe.studio.newest import Newest
from quantrecipe.studio.opened import Base, Knowledge, Opened, open_for_studio

__all__ = ["CONTEXTS", "GoneError", "Session", "UnknownModelError", "settle"]

CONTEXTS = (4096, 8192, 16384, 32768, 65536, 131072, 262144)
"""Tokens that the page proposes for the KV cache."""

_MOST_MODELS = 8
"""Models that stay open; each takes some tens of megabytes."""

T = TypeVar("T")


class UnknownModelError(Exception):
    """No model is open under this name."""


class GoneError(Exception):
    """A file of an open model isn't there any more; the argument says which."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Desk:
    """An open model, with the thread that works on it."""

    opened: Opened
    thread: Newest
    schema: dict[str, Any]


@dataclass(kw_only=True)
class Session:
    """What one studio has open.

    opened:      is called when a model was opened
    model, base: as the command line names them; "" where it doesn't
    recipe:      the name and the text of the recipe that it names
    folder:      from where a text names other files: that of the recipe, else the current one
    """

    knows: Knowledge
    opened: Callable[[], None] = lambda: None
    model: str = ""
    base: str = ""
    recipe: tuple[str, str] | None = None
    folder: Path = field(default_factory=Path)
    _desks: OrderedDict[str, _Desk] = field(default_factory=OrderedDict)
    _lock: Lock = field(default_factory=Lock)
    _opener: Newest = field(default_factory=Newest)
    _count: int = 0
    _shapes: list[dict[str, Any]] = field(default_factory=list)
    _names: tuple[Mapping[str, str], Mapping[str, str], Mapping[str, str]] | None = None

    def start(self) -> dict[str, Any]:
        """What the page has to know first."""
        self._shapes = self._shapes or [_shape(name) for name in reference_models()]
        return {
            "version": __version__,
            "model": self.model or None,
            "recipe": None if self.recipe is None else dict(zip(("name", "text"), self.recipe, strict=True)),
            "base": self.base or None,
            "imatrix": self.knows.importance is not None,
            "shapes": self._shapes,
            "bases": self.bases(),
            "contexts": list(CONTEXTS),
            "kv_types": [name.upper() for name in KV_TYPES],
        }

    def bases(self) -> list[str]:
        """What mixes may be compared with: the presets, the recipes that ship, and what the command line names."""
        shipped = [name for name in shipped_recipes(self.knows.registry) if name.startswith("quantrecipe/")]
        named = [self.base] if self.base else []
        return list(dict.fromkeys([*named, *(f"{PREFIX}{name}" for name in MIXES), *shipped]))

    def open(self, name: str) -> Future[dict[str, Any]]:
        """Open a model; what the page has to know of it. The same name is opened anew: its files may be others now."""
        return self._opener.ask("open", lambda: self._open(name))

    def _open(self, name: str) -> dict[str, Any]:
        if not name.strip() or not name.isprintable():
            raise ModelError(
                f"{name[:80]!r} is no name of a model", "give a path, hf://OWNER/NAME or shapes/NAME"
            )
        opened = open_for_studio(name, self.knows)
        learn_room(opened)
        desk = _Desk(opened=opened, thread=Newest(), schema=self._schema(opened))
        with self._lock:
            self._count += 1
            ident = f"m{self._count}"
            self._desks[ident] = desk
            while len(self._desks) > _MOST_MODELS:
                self._desks.popitem(last=False)[1].thread.end()
        self.opened()
        return {"model": ident, **model_document(opened)}

    def move(self, ident: str, goal: Goal, base: str | None) -> Future[dict[str, Any]]:
        """The mix for a goal, as the page shows it."""

        def work(opened: Opened) -> dict[str, Any]:
            found = moved(opened, goal)
            shown = Shown(plan=found.plan, goal=goal, moved=found, base=self._base(opened, base))
            return plan_document(opened, shown)

        return self._ask(ident, "mix", lambda opened: _timed(lambda: work(opened)))

    def freeze(self, ident: str, goal: Goal, base: str | None) -> Future[dict[str, Any]]:
        """The recipe of the mix for a goal, and what it makes of the model."""

        def work(opened: Opened) -> dict[str, Any]:
            made = frozen(opened, goal)
            shown = Shown(
                plan=made.plan,
                recipe=made.recipe,
                goal=goal,
                moved=made.moved,
                base=self._base(opened, base),
            )
            return plan_document(opened, shown) | {"text": made.text}

        def answer(opened: Opened) -> dict[str, Any]:
            document = _timed(lambda: work(opened))
            return {"text": document.pop("text"), "plan": document}

        return self._ask(ident, "mix", answer)

    def edit(self, ident: str, text: str, goal: Goal | None, base: str | None) -> Future[dict[str, Any]]:
        """What there is to say of a text, and what it makes of the model."""

        def answer(opened: Opened) -> dict[str, Any]:
            found = edited(opened, text, self.folder)
            plan = None
            if found.plan is not None:
                shown = Shown(plan=found.plan, recipe=found.recipe, goal=goal, base=self._base(opened, base))
                plan = _timed(lambda: plan_document(opened, shown))
            return {"problems": problem_documents(found), "plan": plan}

        return self._ask(ident, "text", answer)

    def complete(self, ident: str | None, text: str, line: int, column: int) -> Future[Completion]:
        """What may stand at a place of a text, with the roles of a model, or of none."""
        desk = None if ident is None else self._desk(ident)
        thread = self._opener if desk is None else desk.thread
        return thread.ask(
            "completion",
            lambda: complete(text, line, column, self._schema(None) if desk is None else desk.schema),
        )

    def download(self, ident: str, text: str, what: What) -> Future[dict[str, Any]]:
        """A file that a text makes of the model."""

        def answer(opened: Opened) -> dict[str, Any]:
            name, content = made_file(opened, text, what, self.folder)
            return {"name": name, "text": content}

        return self._ask(ident, what, answer)

    def _desk(self, ident: str) -> _Desk:
        with self._lock:
            if (desk := self._desks.get(ident)) is None:
                raise UnknownModelError(ident)
            self._desks.move_to_end(ident)
            return desk

    def _ask(self, ident: str, kind: str, work: Callable[[Opened], T]) -> Future[T]:
        desk = self._desk(ident)

        def there() -> T:
            if (missing := desk.opened.missing) is not None:
                raise GoneError(str(missing))
            return work(desk.opened)

        return desk.thread.ask(kind, there)

    def _base(self, opened: Opened, base: str | None) -> Base | None:
        return None if base is None else opened.base(base)

    def _schema(self, opened: Opened | None) -> dict[str, Any]:
        if self._names is None:
            self._names = _names(self.knows.registry)
        formats, recipes, encoders = self._names
        roles = set() if opened is None else {folded_role(tensor) for tensor in opened.model.tensors}
        return schema_for(formats, recipes, roles, encoders)


def settle() -> None:
    """Let the garbage collector leave alone what is there: models stay open, and to look through all that they have
    takes a tenth of a second, now and then, in the middle of a move.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def _names(registry: Registry) -> tuple[Mapping[str, str], Mapping[str, str], Mapping[str, str]]:
    """What is installed, each with a line about it: formats, recipes, encoders."""
    specs = [fmt.spec for fmt in registry.formats.values() if fmt.spec.codec]
    formats = {spec.name: f"{spec.bits_per_weight:g} bits per weight; {spec.summary}" for spec in specs}
    recipes = {name: load_recipe(name, registry=registry).summary for name in shipped_recipes(registry)}
    encoders = {name: _summary(encoder) for name, encoder in registry.encoders.items()}
    return formats, recipes, encoders


def _summary(encoder: object) -> str:
    return (type(encoder).__doc__ or "").strip().partition("\n")[0].rstrip(".")


def _shape(name: str) -> dict[str, Any]:
    model = open_model(name)
    label = name.partition("/")[2].replace("-", " ")
    return {"name": name, "label": label, "parameters": sum(tensor.size for tensor in model.tensors)}


def _timed(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The same, with the milliseconds that it took."""
    began = perf_counter()
    return work() | {"milliseconds": round(1000 * (perf_counter() - began), 1)}
