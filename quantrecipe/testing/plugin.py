"""The checks of an installed distribution: that it loads, quickly, beside all others; what it adds; its recipes."""

from __future__ import annotations

from collections.abc import Iterator

from packaging.utils import canonicalize_name

from quantrecipe.errors import PluginError, QuantrecipeError
from quantrecipe.model.architectures import Architecture
from quantrecipe.model.architectures.known import check_architecture
from quantrecipe.plugin_loader import LoadedPlugin, PluginSource, find_plugins, read_plugin
from quantrecipe.recipe.load import load_recipe
from quantrecipe.registry import load_registry
from quantrecipe.testing.checks import Check, checks_of
from quantrecipe.testing.failure import CheckFailure, require
from quantrecipe.testing.surroundings import require_light

__all__ = ["plugin_checks"]


def plugin_checks(distribution: str, *, seed: int = 0) -> Iterator[Check]:
    """Every check of every plugin of the distribution. PluginError where none is installed under this name."""
    wanted = canonicalize_name(distribution)
    sources = [source for source in find_plugins() if canonicalize_name(source.distribution) == wanted]
    if not sources:
        others = sorted({source.distribution for source in find_plugins()})
        raise PluginError(
            f"no installed package {distribution!r} has an entry point of group 'quantrecipe'",
            f"installed are {', '.join(others)}; is it in this environment, and named in its pyproject.toml?",
        )
    for source in sources:
        yield from _checks_of(source, seed)


def _checks_of(source: PluginSource, seed: int) -> Iterator[Check]:
    def check(name: str, promise: str, run: object) -> Check:
        return Check(subject=source.name, name=name, promise=promise, run=run)  # type: ignore[arg-type]  # a function

    yield check(
        "loads", "The module is imported, and its hooks return what they should.", lambda: _loads(source)
    )
    yield check(
        "light_import", "Importing the module imports no heavy package.", lambda: require_light(source.module)
    )
    yield check("alone", "Nothing that it adds is claimed by another plugin.", _no_collision)
    try:
        plugin = read_plugin(source)
    except Exception:  # noqa: BLE001  # the first check says what it is
        return
    yield check("architectures", "Its architectures can be used.", lambda: _usable(plugin))
    try:
        architectures = _architectures(plugin)
    except CheckFailure:
        architectures = ()
    for thing in (*plugin.formats, *plugin.analyses, *plugin.encoders, *plugin.executors, *architectures):
        yield from checks_of(thing, seed=seed)
    yield from _recipe_checks(plugin)


def _recipe_checks(plugin: LoadedPlugin) -> Iterator[Check]:
    for folder in plugin.recipes:
        for path in sorted(folder.folder.glob("*.yaml")):
            name = f"{folder.prefix}/{path.stem}"
            yield Check(
                subject=name,
                name="recipe",
                promise="The recipe loads, and every rule gives its reason.",
                run=lambda name=name: _recipe(name),  # type: ignore[misc]  # the default binds the name
            )


def _usable(plugin: LoadedPlugin) -> None:
    _architectures(plugin)


def _architectures(plugin: LoadedPlugin) -> tuple[Architecture, ...]:
    try:
        return plugin.later("quantrecipe_architectures", Architecture, check_architecture)
    except PluginError as error:
        raise CheckFailure(str(error)) from error


def _loads(source: PluginSource) -> None:
    try:
        read_plugin(source)
    except PluginError as error:
        require(False, str(error))


def _no_collision() -> None:
    try:
        load_registry()
    except PluginError as error:
        require(False, str(error))


def _recipe(name: str) -> None:
    try:
        recipe = load_recipe(name)
    except QuantrecipeError as error:
        require(False, str(error))
        raise
    for rule in recipe.rules:
        require(rule.why or not rule.own, f"{rule.origin}: the rule gives no reason (why:)")
