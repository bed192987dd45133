"""Lists that name tensors one by one, such as tools write them: which line decides, and the few rules that they are.

    blk.0.attn_v.weight=q6_k
    blk.1.attn_v.weight=q6_k          tensors: attn_v
    blk.2.attn_v.weight=q4_k    →     layers: "0-1"
    …                                 type: Q6_K

A line is an expression all the same, and is searched in names: `output.weight` is found in `blk.0.attn_output.weight`,
too. So lines keep their order, and lines about layers are joined only where no other line stands between them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from quantrecipe.exchange.from_commands.overrides import Override, TypeName
from quantrecipe.exchange.to_commands.type_regexes import layer_regex
from quantrecipe.recipe.recipe import Rule
from quantrecipe.recipe.terms.regex import Regex
from quantrecipe.recipe.terms.regex_syntax import exact_regex
from quantrecipe.recipe.writing.braces import braced, is_plain
from quantrecipe.recipe.writing.layer_items import layer_items, layer_texts

__all__ = ["FirstMatch", "joined_lines", "names_tensors", "reason_of"]

_FEWEST = 8
"""Lines that name tensors, from which on a list is taken for one that a tool wrote."""
_ESCAPED = re.compile(r"\\([^A-Za-z0-9])|([^\\^$.*+?()\[\]{}|])|(\.)")
_LAYER = re.compile(r"blk\.([0-9]{1,4})\.(?=[A-Za-z])(.+)")
_ANY = ""
"""In a spelling, what stands for any character."""


class FirstMatch:
    """Says which of many expressions is the first that is found in a name.

    Those that are only a name are looked up letter by letter together, so that a list of 2,000 is no slower than one.
    """

    def __init__(self, expressions: Sequence[str]) -> None:
        self._root = _Node()
        self._others: list[tuple[int, Regex]] = []
        for number, text in enumerate(expressions):
            spelled = _spelling(text)
            if spelled is None:
                self._others.append((number, Regex.parse(text)))
                continue
            letters, start, end = spelled
            node = self._root
            for letter in letters:
                node = node.next.setdefault(letter, _Node())
            node.ends.append((number, start, end))

    def find(self, name: str) -> int | None:
        """Return the number of the expression; None if none is found."""
        best = min(self._spelled(name), default=None)
        for number, regex in self._others:
            if best is not None and number > best:
                break
            if regex.search(name):
                return number
        return best

    def _spelled(self, name: str) -> Iterator[int]:
        first = self._root.next
        begins: Iterable[int] = range(len(name) + 1)
        if _ANY not in first and not self._root.ends:  # most places of most names are where none begins
            begins = (place for place, letter in enumerate(name) if letter in first) if first else ()
        for begin in begins:
            nodes = [self._root]
            for place in range(begin, len(name) + 1):
                for node in nodes:
                    for number, start, end in node.ends:
                        if (not start or begin == 0) and (not end or place == len(name)):
                            yield number
                if place == len(name) or not nodes:
                    break
                letters = (name[place], _ANY) if name[place] not in "\n\r" else (name[place],)
                nodes = [it for node in nodes for letter in letters if (it := node.next.get(letter))]


@dataclass(slots=True)
class _Node:
    next: dict[str, _Node] = field(default_factory=dict)
    ends: list[tuple[int, bool, bool]] = field(default_factory=list)


def _spelling(text: str) -> tuple[list[str], bool, bool] | None:
    """Return the letters of an expression that is only a name, and whether it is anchored at its start and end."""
    start, end = text.startswith("^"), text.endswith("$") and not text.endswith(r"\$")
    body = text[1 if start else 0 : len(text) - end]
    letters: list[str] = []
    place = 0
    while place < len(body):
        match = _ESCAPED.match(body, place)
        if match is None:
            return None
        letters.append(_ANY if match[3] else match[1] or match[2])
        place = match.end()
    return letters, start, end


def spelled_name(text: str) -> str | None:
    """Return the name that an expression is. A point in it is taken for a point, though it stands for any character."""
    spelled = _spelling(text)
    if spelled is None:
        return None
    return "".join(letter or "." for letter in spelled[0])


def names_tensors(overrides: Sequence[Override]) -> bool:
    """Say whether most lines of a list name one tensor each."""
    names = {name for it in overrides if (name := spelled_name(it.regex)) and _LAYER.fullmatch(name)}
    return len(names) >= _FEWEST and 2 * len(names) >= len(overrides)


def reason_of(overrides: Sequence[Override]) -> str:
    """Return the reason of a rule that several lines became: theirs, if they have the same."""
    reasons = dict.fromkeys(it.why for it in overrides if it.why and not it.why.startswith("as --"))
    count = f"{len(overrides)} line{'' if len(overrides) == 1 else 's'} of the list"
    return "; ".join(reasons) if 0 < len(reasons) <= 2 else f"as {count}"


def joined_lines(overrides: Sequence[Override], types: Mapping[str, TypeName]) -> list[Override | Rule]:
    """Join lines that name tensors of one layer after the other to rules; nothing is known of a model.

    A rule reaches the tensors that its lines name, and of no other model more than those.

    types: our types, by how they are written
    """
    found: list[Override | Rule] = []
    run: list[tuple[Override, int, str]] = []
    for override in overrides:
        name = spelled_name(override.regex)
        match = _LAYER.fullmatch(name) if name else None
        if match is not None:
            run.append((override, int(match[1]), match[2]))
            continue
        found += _joined(run, types)
        run = []
        found.append(override)
    found += _joined(run, types)
    return found


def _joined(run: Sequence[tuple[Override, int, str]], types: Mapping[str, TypeName]) -> list[Override | Rule]:
    as_they_are: list[Override | Rule] = [override for override, _, _ in run]
    if len(run) < _FEWEST or not _in_one_order(run):
        return as_they_are
    layers: dict[tuple[str, str], dict[int, Override]] = {}
    seen: set[tuple[str, int]] = set()
    for override, layer, rest in run:
        if (rest, layer) not in seen:  # the first line decides
            seen.add((rest, layer))
            type_ = types[override.type].name
            layers.setdefault((rest, type_), {})[layer] = override
    groups: dict[tuple[str, frozenset[int], bool], list[tuple[str, list[Override]]]] = {}
    for (rest, type_), by_layer in layers.items():
        role = rest.removesuffix(".weight")
        whole = rest.endswith(".weight") and is_plain(role)
        key = (type_, frozenset(by_layer), whole)
        groups.setdefault(key, []).append((role if whole else rest, list(by_layer.values())))
    rules: list[Override | Rule] = []
    for (type_, numbers, whole), members in groups.items():
        names = [name for name, _ in members]
        why = reason_of([it for _, overrides in members for it in overrides])
        if whole:
            items = layer_items(sorted(numbers), range(max(numbers) + 2), 0)
            texts = layer_texts(items)
            rules += [Rule.of(braced(names), layers=text, type=type_, why=why) for text in texts]
        else:
            said = layer_regex(numbers)
            rules += [
                Rule.of([f"regex:blk\\.{said}\\.{exact_regex(name)}"], type=type_, why=why) for name in names
            ]
    return rules if len(rules) * 2 <= len(run) else as_they_are


def _in_one_order(run: Sequence[tuple[Override, int, str]]) -> bool:
    """Say whether names that overlap stand in one order in all layers: `ffn_gate` is found in `ffn_gate_exps`."""
    first: dict[str, int] = {}
    for _, _, rest in run:
        first.setdefault(rest, len(first))
    overlapping = {
        (a, b) for a in first for b in first if a != b and (b.startswith(a) and not a.endswith(".weight"))
    }
    places: Mapping[tuple[str, int], int] = {
        (rest, layer): n for n, (_, layer, rest) in reversed(list(enumerate(run)))
    }
    return all(
        (places[a, layer] < places[b, layer]) == (first[a] < first[b])
        for a, b in overlapping
        for layer in {layer for rest, layer in places if rest == a}
        if (b, layer) in places
    )
