"""What to say of a format that isn't there: a typo, a plugin to install, one that failed, or not a format."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Sequence

from quantrecipe.errors import Problem
from quantrecipe.packaged import packaged_table
from quantrecipe.plugin_loader import PluginInfo

__all__ = ["explain_missing_format", "how_to_install", "package_of"]

_TABLE = "known_formats.toml"


def explain_missing_format(
    name: str,
    available: Sequence[str],
    plugins: Sequence[PluginInfo],
    *,
    plugins_on: bool,
    recipes: Collection[str] = (),
    elsewhere: Collection[str] = (),
) -> Problem:
    """Say why no format of this name is available, and what to do.

    available:  names of the formats that are
    plugins:    every plugin that was found, failed ones included
    plugins_on: False where plugins were switched off
    recipes:    whole names of the recipes that ship, for who takes one for a format
    elsewhere:  those of them that mainline llama.cpp doesn't run: they are recommended to nobody who didn't all but
                name them
    """
    missing = f"format {name!r} is not available"
    if same := _same_but_case(name, available):
        return Problem(
            what=f"there is no format {name!r}", remedy=f"did you mean {same}? (names are case-sensitive)"
        )
    elsewhere = frozenset(elsewhere)
    everywhere = [it for it in available if it not in elsewhere]
    known = packaged_table(_TABLE)
    if kin := known["mixtures"].get(name.upper()):
        return Problem(
            what=f"{name!r} is a mix of formats, not a format",
            remedy=f"extend its recipe (extends: llama.cpp/{name.upper()}), or use a format such as {kin}",
        )
    if name.upper() in known["ggml"]["run_time"]:
        return Problem(
            what=f"format {name!r} exists only at run time, for activations; no file holds it",
            remedy="use Q8_0",
        )
    if name.upper() in known["ggml"]["removed"]:
        return Problem(what=f"format {name!r} was removed from ggml", remedy="use Q4_0 or IQ4_NL")
    if package := package_of(name):
        return _from_package(name, missing, package, plugins, plugins_on=plugins_on)
    if same := _same_but_case(name, known["ggml"]["storage"]):
        return Problem(
            what=f"{missing}: ggml has it, this version of quantrecipe doesn't",
            remedy=f"use one of {_join(everywhere)}",
        )
    failed = [plugin for plugin in plugins if plugin.status == "failed"]
    if word := known["words"].get(re.sub(r"[^a-z0-9]", "", name.lower())):
        return Problem(what=f"there is no format {name!r}", remedy=f"the nearest is {word}")
    if recipe := _recipe_of(name, recipes):
        return Problem(
            what=f"{name!r} is a recipe, not a format",
            remedy=f"extend it (extends: {recipe}), or name a format: `quantrecipe formats` lists them",
        )
    if close := difflib.get_close_matches(name.upper(), everywhere, 3, 0.6):
        return Problem(what=f"there is no format {name!r}", remedy=f"did you mean {' or '.join(close)}?")
    if close := difflib.get_close_matches(name.upper(), sorted(elsewhere), 3, 0.6):
        remedy = f"did you mean {' or '.join(close)}? (mainline llama.cpp doesn't run it)"
        return Problem(what=f"there is no format {name!r}", remedy=remedy)
    if failed:
        return Problem(
            what=f"{missing}; it may belong to a plugin that failed to load",
            remedy="; ".join(f"{plugin.source}: {plugin.cause}" for plugin in failed),
        )
    if not plugins_on:
        return Problem(
            what=f"{missing}, and plugins are switched off", remedy="leave out --no-plugins if one has it"
        )
    return Problem(what=f"there is no format {name!r}", remedy=f"use one of {_join(everywhere)}")


def how_to_install(requirement: str, options: str = "") -> str:
    """The line for pip: of quantrecipe and the plugins in its repository, from there, since no index has them yet.

    requirement: as in PEP 508, quoted for a shell where it needs to be; `options` of pip, with a space behind
    """
    package = re.split(r"[^A-Za-z0-9._-]", requirement.strip("'\""), maxsplit=1)[0]
    if _normal(package) == "quantrecipe":
        return "pip install --upgrade . in a clone of quantrecipe that is up to date"
    if _normal(package) in packaged_table(_TABLE)["packages"]:
        return (
            f"pip install {options}./plugins/{_normal(package)} in a clone of quantrecipe: it isn't on PyPI"
        )
    return f"pip install {options}{requirement}"


def package_of(name: str) -> str | None:
    """The package that brings a format, as far as this version knows."""
    return next(
        (it for it, names in packaged_table(_TABLE)["packages"].items() if _same_but_case(name, names)), None
    )


def _recipe_of(name: str, recipes: Collection[str]) -> str | None:
    """The one recipe that is called so behind its prefix; case doesn't count, nor do `_` and `-`."""

    def key(text: str) -> str:
        return text.lower().replace("_", "-")

    same = [it for it in recipes if key(name) in (key(it), key(it.rpartition("/")[2]))]
    return same[0] if len(same) == 1 else None


def _from_package(
    name: str, missing: str, package: str, plugins: Sequence[PluginInfo], *, plugins_on: bool
) -> Problem:
    missing = f"{missing}; it comes with {package}"
    if not plugins_on:
        return Problem(what=f"{missing}, and plugins are switched off", remedy="leave out --no-plugins")
    installed = [plugin for plugin in plugins if _normal(plugin.distribution) == package]
    if failed := [plugin for plugin in installed if plugin.status == "failed"]:
        return Problem(
            what=f"{missing} {failed[0].version}, which failed to load: {failed[0].cause}",
            remedy=f"mend or reinstall it: {how_to_install(package, '--force-reinstall ')}",
        )
    if installed:
        return Problem(
            what=f"{missing}, but not with the installed version {installed[0].version}",
            remedy=how_to_install(package, "--upgrade "),
        )
    return Problem(what=f"{missing} (not installed)", remedy=how_to_install(package))


def _same_but_case(name: str, names: Sequence[str]) -> str | None:
    return next((known for known in names if known.upper() == name.upper()), None)


def _normal(distribution: str) -> str:
    return distribution.lower().replace("_", "-").replace(".", "-")


def _join(names: Sequence[str]) -> str:
    return ", ".join(names) or "(none)"
