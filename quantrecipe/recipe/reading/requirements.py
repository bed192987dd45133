"""The key `requires`: which packages a recipe needs, and in which versions: `quantrecipe-ik>=0.1`.

A requirement is that of PEP 508, name and versions alone: no URL, no extras, and no markers, since a recipe means
the same everywhere. It is about plugins, and about quantrecipe itself.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from quantrecipe.errors import Problem, RecipeError
from quantrecipe.wording import quoted

if TYPE_CHECKING:
    from packaging.requirements import Requirement

    from quantrecipe.recipe.reading.node_reader import Reader
    from quantrecipe.recipe.reading.yaml_document import Node
    from quantrecipe.registry import Registry

__all__ = ["check_requirement", "read_requires"]


def read_requires(node: Node | None, read: Reader, registry: Registry) -> tuple[str, ...]:
    """Read the requirements of one file, in their normal spelling; what isn't met becomes a problem."""
    found = []
    for text, item in read.texts(node, "requires", "a package with its versions"):
        requirement = read.attempt(item, partial(_parse, text))
        if requirement is None:
            continue
        found.append(str(requirement))
        if problem := check_requirement(requirement, registry):
            read.add(item, problem.what, problem.remedy)
    return tuple(found)


def check_requirement(requirement: Requirement | str, registry: Registry) -> Problem | None:
    """Say why a requirement isn't met, with the pip line that would meet it; None if it is met."""
    from packaging.utils import canonicalize_name

    if isinstance(requirement, str):
        requirement = _parse(requirement)
    name = canonicalize_name(requirement.name)
    needs = f"this recipe needs {requirement}"
    said = _shell(str(requirement))
    plugins = [it for it in registry.plugins if canonicalize_name(it.distribution) == name]
    if not plugins:
        if not registry.plugins_on:
            return Problem(what=f"{needs}, and plugins are switched off", remedy="leave out --no-plugins")
        if (version := _installed(requirement.name)) is not None:
            what = f"{needs}; {requirement.name} {version} is installed, and is no plugin of quantrecipe"
            return Problem(what=what, remedy="name the plugin's package")
        return Problem(what=f"{needs}, which isn't installed", remedy=registry.how_to_install(said))
    version = plugins[0].version
    if not requirement.specifier.contains(version, prereleases=True):
        upgrade = registry.how_to_install(said, "--upgrade ")
        return Problem(what=f"{needs}; {version} is installed", remedy=upgrade)
    if failed := next((it for it in plugins if it.status == "failed"), None):
        return Problem(
            what=f"{needs}; {version} is installed, but failed to load: {failed.cause}",
            remedy=f"mend or reinstall it: {registry.how_to_install(said, '--force-reinstall ')}",
        )
    return None


def _installed(name: str) -> str | None:
    """Return the version of an installed package, plugin or not."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except (PackageNotFoundError, ValueError):
        return None


def _parse(text: str) -> Requirement:
    from packaging.requirements import InvalidRequirement, Requirement

    what = f"{quoted(text)} can't be required"
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        raise RecipeError(what, "write a package and its versions: quantrecipe-ik>=0.1") from None
    if requirement.url:
        raise RecipeError(f"{what}: it names a URL, and recipes name none", "write quantrecipe-ik>=0.1")
    if requirement.marker or requirement.extras:
        part = "a marker" if requirement.marker else "extras"
        raise RecipeError(f"{what}: it has {part}", "write name and versions alone: quantrecipe-ik>=0.1")
    return requirement


def _shell(requirement: str) -> str:
    """Put a requirement in quotes if a shell would take its < or > for itself."""
    return f"'{requirement}'" if any(sign in requirement for sign in "<>!*~ ") else requirement
