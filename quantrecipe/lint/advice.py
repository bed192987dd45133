"""The advice of the field, as data: floors for roles, and yardsticks for whole files (floors.toml)."""

from __future__ import annotations

from dataclasses import dataclass

from quantrecipe.packaged import packaged_table
from quantrecipe.recipe.pattern import Pattern

__all__ = ["Advice", "Floor", "Yardstick", "load_advice"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Floor:
    """The fewest bits per weight that are advised for some roles."""

    roles: tuple[Pattern, ...]
    bits: float
    why: str
    source: str
    inherited: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Yardstick:
    """A recipe whose bits per weight are the fewest that are advised; for recipes that say one of `words`, if any."""

    code: str
    recipe: str
    says: str
    source: str
    words: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True, slots=True)
class Advice:
    """All of it."""

    floors: tuple[Floor, ...]
    yardsticks: tuple[Yardstick, ...]


def load_advice() -> Advice:
    """The advice that ships."""
    content = packaged_table("lint/floors.toml")
    return Advice(
        floors=tuple(
            Floor(
                roles=tuple(map(Pattern.parse, floor["roles"])),
                bits=floor["bits"],
                why=floor["why"],
                source=floor["source"],
                inherited=floor.get("inherited", False),
            )
            for floor in content["floors"]
        ),
        yardsticks=tuple(
            Yardstick(
                code=it["code"],
                recipe=it["recipe"],
                says=it["says"],
                source=it["source"],
                words=frozenset(it.get("words", ())),
            )
            for it in content["yardsticks"]
        ),
    )
