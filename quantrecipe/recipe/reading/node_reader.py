"""Reader: takes nodes apart, and notes what isn't as expected instead of stopping at it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from quantrecipe.errors import Problem, RecipeError
from quantrecipe.recipe.reading.yaml_document import Node, NodeKind
from quantrecipe.wording import closest, quoted

__all__ = ["Effort", "Reader"]

_ARTICLES: Mapping[NodeKind, str] = {
    "text": "a text",
    "number": "a number",
    "yes-or-no": "true or false",
    "nothing": "nothing",
    "list": "a list",
    "mapping": "a mapping",
}
_TRUE_IN_YAML_1_1 = ("yes", "on", "y")
_FALSE_IN_YAML_1_1 = ("no", "off", "n")
_MAX_LINE = 300
"""Characters of a name or a version: it stands in messages and in the metadata of files."""
_MOST_PROBLEMS = 200
"""A file with more is hardly a recipe, and nobody would read them all."""
_MAX_EFFORT = 400_000
"""In microseconds or so: a shipped recipe comes to some thousands, a rule for each of 1,000 tensors to 100,000."""
_MAX_CHAIN_BYTES = 2 << 20
"""Of all files that extend each other: two of the largest size, since parents are small."""
_SIMPLER = "write fewer rules for more tensors: roles, layers and wildcards instead of lists"

_T = TypeVar("_T")


class Effort:
    """How much work a recipe may still make, for whoever loads it and plans with it.

    Recipes come from strangers. Each piece of one is bounded by itself (patterns, expressions, layers), and this bounds
    their sum, over all files that extend each other. The unit is about a microsecond of loading; what costs more when
    a model is planned weighs more.
    """

    def __init__(self) -> None:
        self._left = _MAX_EFFORT
        self._bytes_left = _MAX_CHAIN_BYTES

    def spend(self, cost: int) -> None:
        """Pay for a piece. RecipeError if there isn't enough left."""
        self._left -= cost
        if self._left < 0:
            raise RecipeError("the recipe is too much work: its patterns, layers and expressions", _SIMPLER)

    def read(self, nbytes: int) -> None:
        """Pay for a file. RecipeError if there isn't enough left."""
        self._bytes_left -= nbytes
        if self._bytes_left < 0:
            most = _MAX_CHAIN_BYTES >> 20
            raise RecipeError(f"the recipes that extend each other have more than {most} MiB")


class Reader:
    """Reads the nodes of one file. Each method gives None (or nothing) for a node that is None or was wrong."""

    def __init__(self, file: str, problems: Sequence[Problem] = (), effort: Effort | None = None) -> None:
        self.file = file
        self.problems = list(problems)
        self._effort = effort or Effort()

    def add(self, node: Node, what: str, remedy: str = "", code: str = "") -> None:
        """Note a problem at this node. If there are very many, RecipeError ends the reading with all of them."""
        self.problems.append(
            Problem(what=what, remedy=remedy, file=self.file, line=node.line, column=node.column, code=code)
        )
        if len(self.problems) > _MOST_PROBLEMS:
            last = Problem(
                what=f"more than {_MOST_PROBLEMS} problems", remedy="mend these first", file=self.file
            )
            raise RecipeError([*self.problems[:_MOST_PROBLEMS], last])

    def spend(self, line: int, cost: int) -> None:
        """Pay for what stands in a line (see `Effort`). If it is too much, RecipeError ends all reading."""
        try:
            self._effort.spend(cost)
        except RecipeError as error:
            raise RecipeError([*self.problems, *error.at(self.file, line)]) from None

    def attempt(self, node: Node, parse: Callable[[], _T], before: str = "") -> _T | None:
        """Return what `parse` returns. Its errors become problems at this node, with `before` in front."""
        try:
            return parse()
        except RecipeError as error:
            for problem in error.problems:
                self.add(node, f"{before}{problem.what}", problem.remedy)
            return None

    def mapping(self, node: Node, what: str, known: Sequence[str]) -> Mapping[str, Node] | None:
        """Return the values by key; keys that aren't known are problems."""
        if node.kind != "mapping":
            self.add(
                node, f"{what} must be a mapping, not {_ARTICLES[node.kind]}", f"its keys: {', '.join(known)}"
            )
            return None
        for key, entry in node.entries.items():
            if key not in known:
                close = closest(key, known)
                remedy = f"did you mean {close!r}?" if close else f"known keys: {', '.join(known)}"
                self.add(entry.key, f"unknown key {quoted(key)} in {what}", remedy, "QR002")
        return {key: entry.value for key, entry in node.entries.items()}

    def items(self, node: Node | None, key: str) -> tuple[Node, ...]:
        """Return the items of a list."""
        if node is None:
            return ()
        if node.kind != "list":
            self.add(
                node,
                f"{key} must be a list, not {_ARTICLES[node.kind]}",
                "start each item with a - on its own line",
            )
            return ()
        return node.items

    def text(self, node: Node | None, key: str, *, line: bool = False) -> str | None:
        """Return a text that isn't empty; with `line`, it has to be short and on one line."""
        if node is None:
            return None
        if node.kind != "text":
            self.add(node, f"{key} must be a text, not {_ARTICLES[node.kind]}", _quoting(node), "QR005")
            return None
        text: str = node.value
        if not text.strip():
            self.add(node, f"{key} is empty", "write something, or leave the key out")
            return None
        if line and (len(text) > _MAX_LINE or not text.isprintable()):
            self.add(node, f"{key} must be one short line", f"at most {_MAX_LINE} characters")
            return None
        return text

    def texts(self, node: Node | None, key: str, what: str) -> list[tuple[str, Node]]:
        """Return one text, or the texts of a list, each with its node."""
        if node is None:
            return []
        if node.kind not in ("text", "list"):
            self.add(
                node,
                f"{key} must be {what} or a list of them, not {_ARTICLES[node.kind]}",
                _quoting(node),
                "QR005",
            )
            return []
        found = [(self.text(item, what), item) for item in (node.items if node.kind == "list" else [node])]
        return [(text, item) for text, item in found if text is not None]

    def choice(self, node: Node | None, key: str, choices: Sequence[str]) -> str | None:
        """Return one of some words."""
        word = self.text(node, key)
        if node is None or word is None or word in choices:
            return word
        close = closest(word, choices) or next((it for it in choices if it.lower() == word.lower()), None)
        remedy = f"did you mean {close!r}?" if close else f"write one of: {', '.join(choices)}"
        self.add(node, f"{key}: {quoted(word)} isn't known", remedy)
        return None

    def yes_no(self, node: Node | None, key: str) -> bool | None:
        """Return true or false."""
        if node is None:
            return None
        if node.kind == "yes-or-no":
            return bool(node.value)
        shown = quoted(node.value) if node.kind == "text" else _ARTICLES[node.kind]
        word = str(node.value).lower()
        remedy = f"write {key}: true or {key}: false"
        if word in _TRUE_IN_YAML_1_1:
            remedy = f"write {key}: true"
        elif word in _FALSE_IN_YAML_1_1:
            remedy = f"write {key}: false"
        self.add(node, f"{key} must be true or false, not {shown}", remedy, "QR005")
        return None


def _quoting(node: Node) -> str:
    if node.kind == "mapping":
        return 'a text with { } or a colon in it needs quotes: "ffn_{gate,up}"'
    if node.kind in ("number", "yes-or-no"):
        return f'quote it if it is meant as text: "{str(node.value).lower()}"'
    if node.kind == "list":
        return 'a text with [ ] in it needs quotes: "attn_[kv]"'
    return "write something, or leave the key out"
