"""known_architectures: those that the installed plugins have, the built-in one among them."""

from __future__ import annotations

from collections.abc import Mapping

from quantrecipe.errors import PluginError
from quantrecipe.model.architectures.architecture import PARTS, Architecture
from quantrecipe.plugin_loader import LoadedPlugin, check_name
from quantrecipe.registry import Registry, refuse_collisions
from quantrecipe.wording import shortened

__all__ = ["architectures_of", "check_architecture", "known_architectures"]

_HOOK = "quantrecipe_architectures"


def known_architectures(registry: Registry) -> Mapping[str, tuple[Architecture, ...]]:
    """By the class name under `architectures` in config.json; of several the first whose `applies` says so.

    PluginError where a plugin's can't be used, and where two plugins have one for the same class and part.
    """
    found: dict[str, tuple[Architecture, ...]] = {}
    claims: dict[tuple[str, int], LoadedPlugin] = {}
    for place, plugin in enumerate(registry.loaded):
        for architecture in architectures_of(plugin):
            for name in architecture.classes:
                found[name] = (*found.get(name, ()), architecture)
                claims[f"class {name!r} ({architecture.part})", place] = plugin
    refuse_collisions((claim, plugin) for (claim, _), plugin in claims.items())
    return dict(sorted(found.items()))


def architectures_of(plugin: LoadedPlugin) -> tuple[Architecture, ...]:
    """Those of one plugin. PluginError, with its name, where they can't be used."""
    return plugin.later(_HOOK, Architecture, check_architecture)


def check_architecture(architecture: Architecture) -> None:
    """PluginError for an architecture whose names are none, or whose part isn't one."""
    check_name("architecture", architecture.name, architecture)
    for name in architecture.classes:
        check_name("class", name, architecture)
    if not architecture.classes:
        raise PluginError(f"architecture {architecture.name} has no classes", "say classes=(…, )")
    if architecture.part not in PARTS:
        what = f"architecture {architecture.name} has the part {shortened(repr(architecture.part))}"
        raise PluginError(what, f"parts are {', '.join(PARTS)}")
