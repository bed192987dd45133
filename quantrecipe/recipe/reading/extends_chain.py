"""Chain: a recipe's file and all that it extends, read in the order in which they count.

Three steps, since each file has to know something of its relatives:

1. The files are found and their trees read, along `extends`.
2. The variables are bound, with the settings before the children's defaults before the parents'.
3. Each file is parsed after its parents, whose groups and facts it may use.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from quantrecipe.errors import Problem, RecipeError
from quantrecipe.recipe.reading.groups_and_facts import Definitions
from quantrecipe.recipe.reading.node_reader import Effort, Reader
from quantrecipe.recipe.reading.recipe_part import RecipePart, parse_part, read_extends, read_own
from quantrecipe.recipe.reading.recipe_place import SUFFIXES, Place
from quantrecipe.recipe.reading.rule_items import Inclusion
from quantrecipe.recipe.reading.variable_declarations import Declaration, bind, unknown_settings
from quantrecipe.recipe.reading.variables import Uses
from quantrecipe.recipe.reading.yaml_document import MAX_BYTES, Node, read_document
from quantrecipe.recipe.recipe import KeepEntry, Origin, Variable

if TYPE_CHECKING:
    from quantrecipe.registry import Registry

__all__ = ["SHARED_KEPT_LIST", "Chain", "Link"]

SHARED_KEPT_LIST = "llama.cpp/kept"
"""The recipe whose kept list holds where no other is given."""

_MAX_FILES = 64  # shipped recipes come to five files at most
_COST_OF_A_NAME = 100  # in microseconds, as all of `Effort`: to find the file
_COST_OF_A_SHORT_NAME = 2000  # every folder of shipped recipes is looked through


@dataclass(kw_only=True, slots=True)
class Link:
    """One file of the chain, or a part that a program made in place of the user's own.

    extends:   what it names as its parents
    through:   the places of the `extends` that led to it, the user's own file first; empty for that file
    parents:   the files that it extends
    variables: names of the variables that it may use: its own and its parents'
    part:      what it says, once it is parsed
    """

    place: Place
    root: Node | None
    read: Reader
    extends: tuple[Inclusion, ...]
    through: tuple[Origin, ...]
    own: bool
    declarations: tuple[Declaration, ...] = ()
    parents: list[Link] = field(default_factory=list)
    variables: frozenset[str] = frozenset()
    part: RecipePart = field(default_factory=lambda: RecipePart(file=""))
    parsed: bool = False


class Chain:
    """Reads the files of a recipe, notes every problem, and raises them together at the end.

    `notes` says what names were taken for, where that isn't plain.
    """

    def __init__(self, registry: Registry, settings: Mapping[str, str]) -> None:
        self.registry = registry
        self.variables: dict[str, Variable] = {}
        self.notes: list[Problem] = []
        self._settings = settings
        self._problems: list[Problem] = []
        self._read_in_order: list[str] = []
        self._met: dict[str, Link | None] = {}
        self._used: set[str] = set()
        self._effort = Effort()

    def read(self, place: Place, text: str | RecipePart | None) -> tuple[list[Link], tuple[KeepEntry, ...]]:
        """Read the files; return them in the order in which they count, and the kept list.

        text: of the first file; None: as it is at its place; or what it says, where a program made it
        """
        if place.note:
            self.notes.append(Problem(what=place.note))
        links = self._read(place, text, ())
        keep = self._kept_list(links)
        known = [said.name for link in self._met.values() if link for said in link.declarations]
        self._problems += unknown_settings(self._settings, known)
        if links and links[0].part.rules:
            self._note_unused(links[0])
        return links, keep

    def raise_problems(self) -> None:
        """Raise RecipeError if there are problems: file by file as they were read, each in line order."""
        problems = self._problems + [it for link in self._met.values() if link for it in link.read.problems]
        if problems:
            files = ["None", *dict.fromkeys(self._read_in_order)]
            files += sorted({str(problem.file) for problem in problems} - set(files))
            raise RecipeError(
                sorted(problems, key=lambda p: (files.index(str(p.file)), p.line or 0, p.column or 0))
            )

    def _read(self, place: Place, text: str | RecipePart | None, above: tuple[str, ...]) -> list[Link]:
        links = self._links(place, text, above, ())
        declarations = [said for link in links for said in link.declarations]
        open_settings = {name: it for name, it in self._settings.items() if name not in self.variables}
        variables, problems = bind(declarations, open_settings, self.registry)
        self.variables = {**variables, **self.variables}
        self._problems += problems
        for link in links:
            self._parse(link)
        return links

    def _links(
        self,
        place: Place,
        text: str | RecipePart | None,
        above: tuple[str, ...],
        through: tuple[Origin, ...],
    ) -> list[Link]:
        """Find each file once, in the order in which they count: this one, then its parents with theirs."""
        key = place.identity
        self._met[key] = None
        if (link := self._link(place, text, through, own=not above)) is None:
            return []
        self._met[key] = link
        links = [link]
        for inclusion in link.extends:
            link.read.spend(inclusion.origin.line, _cost(inclusion.ref))
            parent = self._find(place, inclusion)
            if parent is None:
                continue
            found = parent.identity
            if found in (*above, key):
                self._note(
                    inclusion.origin,
                    f"{inclusion.ref!r} extends this recipe, so each would come before the other",
                    "leave out one `extends`",
                )
                continue
            if found not in self._met:
                links += self._links(parent, None, (*above, key), (*through, inclusion.origin))
            if (known := self._met[found]) is not None:
                link.parents.append(known)
        return links

    def _link(
        self, place: Place, text: str | RecipePart | None, through: tuple[Origin, ...], *, own: bool
    ) -> Link | None:
        """Read one file by itself; return None if it can't be read."""
        if isinstance(text, RecipePart):
            read = Reader(place.file)
            return Link(
                place=place, root=None, read=read, extends=text.extends, through=through, own=own, part=text
            )
        if (document := self._document(place, text)) is None:
            return None
        root, read = document
        declarations = read_own(root, read)
        return Link(
            place=place,
            root=root,
            read=read,
            extends=read_extends(root, read),
            through=through,
            own=own,
            declarations=declarations,
        )

    def _document(self, place: Place, text: str | None) -> tuple[Node, Reader] | None:
        """Read the YAML of one file; if that fails, note the problems and return None."""
        self._read_in_order.append(place.file)
        n_files = len(self._read_in_order)
        if n_files > _MAX_FILES:
            if n_files == _MAX_FILES + 1:
                self._problems.append(
                    Problem(what=f"more than {_MAX_FILES} recipes extend each other", file=place.file)
                )
            return None
        try:
            text = place.read() if text is None else text
            self._effort.read(
                len(text) if len(text) <= MAX_BYTES else 0
            )  # one that is too large isn't read at all
            root, problems = read_document(text, place.file)
        except RecipeError as error:
            self._problems.extend(error.problems)
            return None
        return root, Reader(place.file, problems, self._effort)

    def _parse(self, link: Link) -> None:
        """Parse one file, after its parents."""
        if link.parsed:
            return
        link.parsed = True
        inherited = Definitions()
        names = {said.name for said in link.declarations}
        for parent in link.parents:
            self._parse(parent)
            inherited = inherited.over(parent.part.definitions)
            names |= parent.variables
        link.variables = frozenset(names)
        if link.root is None:
            return
        uses = Uses(self.variables, names, link.read)
        link.part = parse_part(
            link.root,
            link.read,
            self.registry,
            own=link.own,
            extends=link.extends,
            inherited=inherited,
            uses=uses,
        )
        self._used |= uses.names

    def _note_unused(self, link: Link) -> None:
        """Note the variables that nothing uses: in a recipe that has rules of its own these are mistakes."""
        for said in link.declarations:
            if said.name not in self._used:
                self._note(
                    said.origin,
                    f"the variable {said.name!r} is never used",
                    f"write ${said.name} where its value should stand, or leave it out",
                )

    def _included(self, place: Place) -> Link | None:
        """Return the file whose kept list is included."""
        if place.identity not in self._met:
            self._read(place, None, ("",))
        return self._met[place.identity]

    def _find(self, place: Place, inclusion: Inclusion) -> Place | None:
        """Find an included recipe; if there is none, note the problem and return None."""
        try:
            found = place.named(inclusion.ref, self.registry)
        except RecipeError as error:
            self._problems += _at(inclusion.origin, error)
            return None
        if found.note:
            self.notes += _at(inclusion.origin, RecipeError(found.note))
        return found

    def _kept_list(self, links: Iterable[Link]) -> tuple[KeepEntry, ...]:
        given = next(((link.place, link.part.keep) for link in links if link.part.keep is not None), None)
        if given is None:
            given = (
                Place(file="", path=Path()),
                (Inclusion(ref=SHARED_KEPT_LIST),),
            )
        return tuple(self._keep_entries(*given, ()))

    def _keep_entries(
        self, place: Place, items: Iterable[KeepEntry | Inclusion], above: tuple[str, ...]
    ) -> Iterator[KeepEntry]:
        """Yield the entries, with those of the lists that are included by name in their places."""
        for item in items:
            if isinstance(item, KeepEntry):
                yield item
                continue
            self._pay(
                item.origin, _cost(item.ref)
            )  # lists that include lists twice would double at each level
            if (found := self._find(place, item)) is not None:
                key = found.identity
                if key in above:
                    self._note(item.origin, f"the kept list of {item.ref!r} includes itself", "leave it out")
                elif (link := self._included(found)) is not None:
                    if link.part.keep is None:
                        self._note(
                            item.origin,
                            f"{item.ref!r} has no kept list",
                            f"{SHARED_KEPT_LIST} has the shared one",
                        )
                    for entry in self._keep_entries(found, link.part.keep or (), (*above, key)):
                        self._pay(item.origin, sum(pattern.cost for pattern in entry.tensors))
                        yield entry

    def _pay(self, origin: Origin, cost: int) -> None:
        """Pay for what is named at this place. If it is too much, RecipeError ends all reading."""
        try:
            self._effort.spend(cost)
        except RecipeError as error:
            raise RecipeError([*self._problems, *_at(origin, error)]) from None

    def _note(self, origin: Origin, what: str, remedy: str) -> None:
        self._problems += _at(origin, RecipeError(what, remedy))


def _at(origin: Origin, error: RecipeError) -> list[Problem]:
    """Return the problems of an error, at the place in a recipe that led to it, if there is one."""
    return error.at(origin.file or None, origin.line or None)


def _cost(ref: str) -> int:
    """Return what it costs to find the recipe of a name."""
    return _COST_OF_A_NAME if "/" in ref or ref.endswith(SUFFIXES) else _COST_OF_A_SHORT_NAME
