"""The table of targets: what is known of each engine, and what that says of one type.

    load_targets().runs("llama.cpp", "b7000", "metal", "IQ3_S").speed   → "slow"

The facts are in targets.toml, each with its source; `version` is raised when their form changes, `as_of` says
when they were looked up. A build that is newer than the table knows is taken for the newest that it knows; without a
device, a type is as fast as on the engine's best one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, Literal

from quantrecipe.errors import RecipeError
from quantrecipe.packaged import packaged_table
from quantrecipe.typed import typed

__all__ = ["DEVICES", "Engine", "Fact", "Speed", "Support", "Targets", "build_number", "load_targets"]

Speed = Literal["fast", "slow", "unknown", "no"]
"""How a type runs: as fast as others of its size; slower; nobody looked it up; not at all."""

DEVICES = ("cpu", "cuda", "metal", "vulkan")
_BUILD = re.compile(r"[bv]?([0-9]{1,9}(?:\.[0-9]{1,9}){0,3})", re.ASCII)
_BEST_FIRST: tuple[Speed, ...] = ("fast", "slow", "unknown", "no")


@dataclass(frozen=True, kw_only=True, slots=True)
class Support:
    """How an engine runs a type.

    why:    the reason, where it isn't fast
    source: where that is from
    """

    speed: Speed
    why: str = ""
    source: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fact:
    """One entry of the table; see targets.toml."""

    types: frozenset[str]
    speed: Speed
    source: str
    since: str | None = None
    seen: str | None = None
    why: str = ""
    devices: tuple[str, ...] = DEVICES

    def holds(self, type_: str, device: str) -> bool:
        """True if it is about this type on this device, in whatever build."""
        return type_ in self.types and device in self.devices


@dataclass(frozen=True, kw_only=True, slots=True)
class Engine:
    """An engine. `like`: the engine whose facts hold where it has none of its own, builds left aside."""

    name: str
    newest: str
    note: str
    facts: tuple[Fact, ...]
    like: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Targets:
    """The whole table of targets."""

    version: int
    as_of: str
    engines: Mapping[str, Engine]

    def engine(self, name: str) -> Engine:
        """The engine of this name. RecipeError, with a suggestion, if there is none."""
        if name not in self.engines:
            close = get_close_matches(name.lower(), self.engines, n=1)
            known = f"known are {', '.join(self.engines)}"
            raise RecipeError(
                f"there is no engine {name!r}", f"did you mean {close[0]!r}? {known}" if close else known
            )
        return self.engines[name]

    def is_newer(self, engine: str, build: str | None) -> bool:
        """True if the build is newer than the newest that the table knows, and so is taken for that one."""
        newest = self.engine(engine).newest
        return bool(build and newest and build_number(build) > build_number(newest))

    def runs(self, engine: str, build: str | None, device: str | None, type_: str) -> Support:
        """How a type runs there. `build` None: the newest; `device` None: the best. RecipeError for unknown names."""
        found = self.engine(engine)
        if device is not None and device not in DEVICES:
            raise RecipeError(f"there is no device {device!r}", f"known are {', '.join(DEVICES)}")
        number = None if build is None else build_number(build)
        supports = [self._on(found, number, it, type_) for it in ([device] if device else DEVICES)]
        return min(supports, key=lambda support: _BEST_FIRST.index(support.speed))

    def _on(self, engine: Engine, build: tuple[int, ...] | None, device: str, type_: str) -> Support:
        missing = ""
        for fact in engine.facts:
            if not fact.holds(type_, device):
                continue
            if build is not None and fact.since is not None and build < build_number(fact.since):
                missing = missing or f"{engine.name} has it since {fact.since}"
            elif build is not None and fact.seen is not None and build < build_number(fact.seen):
                why = f"{engine.name} {fact.seen} has it; of older builds it isn't known"
                return Support(speed="unknown", why=why, source=fact.source)
            else:
                return Support(speed=fact.speed, why=fact.why, source=fact.source)
        if missing:
            return Support(speed="no", why=missing, source="see the newer build")
        if engine.like is not None:
            return self._on(self.engines[engine.like], None, device, type_)
        return Support(speed="unknown", why=f"the table has nothing about {type_} on {engine.name}")


def build_number(text: str) -> tuple[int, ...]:
    """ "b7000" and "7000" → (7000,); "0.34.2" → (0, 34, 2). RecipeError where it is neither."""
    match = _BUILD.fullmatch(text.strip())
    if match is None:
        raise RecipeError(f"{text[:40]!r} is no build", "write it as the engine prints it: b7000, or 0.34.2")
    return tuple(int(part) for part in match[1].split("."))


def load_targets() -> Targets:
    """The table of targets that ships."""
    content = packaged_table("targets/targets.toml")
    groups: dict[str, list[str]] = content["groups"]
    return Targets(
        version=content["version"],
        as_of=content["as_of"],
        engines=MappingProxyType(
            {name: _engine(name, engine, groups) for name, engine in content["engines"].items()}
        ),
    )


def _engine(name: str, content: Mapping[str, Any], groups: Mapping[str, list[str]]) -> Engine:
    facts = [{**fact, "types": list(_types(fact["types"], groups))} for fact in content["facts"]]
    return typed({**content, "name": name, "facts": facts}, Engine)


def _types(names: Iterable[str], groups: Mapping[str, list[str]]) -> Iterable[str]:
    for name in names:
        yield from groups[name.removeprefix("@")] if name.startswith("@") else (name,)
