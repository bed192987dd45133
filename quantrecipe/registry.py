"""The registry: every format, analysis, encoder, executor and recipe folder that is there, and where each comes from.

A Registry is a value that `load_registry` makes anew; there is no global one. The built-in plugin
(`quantrecipe.builtin`) implements the same hooks as anyone's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

import quantrecipe
from quantrecipe.api import (
    Analysis,
    Encoder,
    Executor,
    FormatSpec,
    ModelAnalysis,
    QuantFormat,
    TensorAnalysis,
)
from quantrecipe.errors import PluginError, Problem
from quantrecipe.missing_formats import explain_missing_format, how_to_install
from quantrecipe.plugin_loader import (
    LoadedPlugin,
    PluginInfo,
    PluginSource,
    find_plugins,
    load_plugin,
    read_plugin,
)

__all__ = ["PluginInfo", "PluginSource", "Registry", "load_registry", "refuse_collisions"]

_BUILTIN = "quantrecipe.builtin"

_Thing = TypeVar("_Thing")


@dataclass(frozen=True, kw_only=True)
class Registry:
    """All formats, analyses, encoders, executors and recipe folders, and the plugins that they come from.

    formats:        by name, in the plugins' order, the built-in ones first
    analyses:       by name
    recipe_folders: by prefix: `PREFIX/NAME` in `extends` means `recipe_folders[PREFIX] / "NAME.yaml"`
    plugins:        every plugin that was found, those that failed to load included
    encoders, executors: by name
    plugins_on:     False where only the built-in plugin was looked for
    loaded:         the plugins themselves, for hooks that are called later
    """

    formats: Mapping[str, QuantFormat]
    analyses: Mapping[str, Analysis]
    recipe_folders: Mapping[str, Path]
    plugins: tuple[PluginInfo, ...]
    encoders: Mapping[str, Encoder] = field(default_factory=lambda: MappingProxyType({}))
    executors: Mapping[str, Executor] = field(default_factory=lambda: MappingProxyType({}))
    plugins_on: bool = True
    loaded: tuple[LoadedPlugin, ...] = ()

    @property
    def by_ggml_type(self) -> Mapping[int, FormatSpec]:
        """Specs by type id. Where two dialects use the same id, mainline ggml's counts."""
        specs = [fmt.spec for fmt in self.formats.values()]
        specs.sort(key=lambda spec: spec.dialect == "ggml")  # mainline last, so that it stays
        return MappingProxyType({spec.ggml_type: spec for spec in specs})

    @property
    def failed(self) -> tuple[PluginInfo, ...]:
        """The plugins that could not be loaded."""
        return tuple(plugin for plugin in self.plugins if plugin.status == "failed")

    def format(self, name: str) -> QuantFormat:
        """The format of this name. PluginError, saying where it is to be had, if there is none."""
        if name in self.formats:
            return self.formats[name]
        raise PluginError([self.missing_format(name)])

    def chain(self, name: str) -> Iterator[QuantFormat]:
        """The format of this name and its fallbacks, in the order in which they are tried.

        The chain ends where a format has no fallback, where it comes round, and where the next one belongs to a plugin
        that isn't installed.
        """
        seen: set[str] = set()
        fmt = self.formats.get(name)
        while fmt is not None and fmt.spec.name not in seen:
            seen.add(fmt.spec.name)
            yield fmt
            fmt = self.formats.get(fmt.spec.fallback or "")

    def missing_format(self, name: str) -> Problem:
        """Why there is no format of this name, and what to do; file and line are the caller's to add."""
        codecs = tuple(other for other, fmt in self.formats.items() if fmt.spec.codec)
        elsewhere = [other for other in codecs if self.formats[other].spec.dialect != "ggml"]
        recipes = [
            f"{prefix.partition('@')[0]}/{path.stem}"
            for prefix, folder in self.recipe_folders.items()
            for path in sorted(folder.glob("*.yaml"))
        ]
        return explain_missing_format(
            name,
            codecs,
            self.plugins,
            plugins_on=self.plugins_on,
            recipes=tuple(dict.fromkeys(recipes)),
            elsewhere=elsewhere,
        )

    def how_to_install(self, requirement: str, options: str = "") -> str:
        """The line for pip that brings a package (see `missing_formats`)."""
        return how_to_install(requirement, options)

    def tensor_analysis(self, name: str) -> TensorAnalysis:
        """The analysis of this name that measures losses of tensors. PluginError if there is no such."""
        return _named(name, {it.name: it for it in self.analyses.values() if isinstance(it, TensorAnalysis)})

    def model_analysis(self, name: str) -> ModelAnalysis:
        """The analysis of this name that weighs the tensors of a model. PluginError if there is no such."""
        return _named(name, {it.name: it for it in self.analyses.values() if isinstance(it, ModelAnalysis)})

    def encoder(self, name: str) -> Encoder:
        """The encoder of this name. PluginError if there is no such."""
        return _named(name, self.encoders, "encoder")

    def executor(self, name: str) -> Executor:
        """The executor of this name. PluginError if there is no such."""
        return _named(name, self.executors, "executor")

    def provider(self, format_name: str) -> PluginInfo:
        """Return the plugin that a format comes from."""
        return next(plugin for plugin in self.plugins if format_name in plugin.formats)


def load_registry(*, plugins: bool = True) -> Registry:
    """Everything that the built-in plugin and, unless `plugins` is False, the installed ones provide.

    A plugin that can't be loaded is listed in `Registry.failed`, and adds nothing. PluginError where two
    plugins use the same name, recipe prefix or type id: which of them a recipe means can't be guessed.
    """
    builtin = PluginSource(
        distribution="quantrecipe", name="builtin", module=_BUILTIN, version=quantrecipe.__version__
    )
    loaded = [read_plugin(builtin)]  # loaded by name: a source tree that isn't installed has it, too
    if plugins:
        loaded += [load_plugin(source) for source in find_plugins() if source.module != _BUILTIN]
    _check_collisions(loaded)
    return Registry(
        formats=MappingProxyType({fmt.spec.name: fmt for plugin in loaded for fmt in plugin.formats}),
        analyses=MappingProxyType({item.name: item for plugin in loaded for item in plugin.analyses}),
        recipe_folders=MappingProxyType(
            {item.prefix: item.folder for plugin in loaded for item in plugin.recipes}
        ),
        plugins=tuple(plugin.info for plugin in loaded),
        encoders=MappingProxyType({item.name: item for plugin in loaded for item in plugin.encoders}),
        executors=MappingProxyType({item.name: item for plugin in loaded for item in plugin.executors}),
        plugins_on=plugins,
        loaded=tuple(loaded),
    )


def _named(name: str, found: Mapping[str, _Thing], kind: str = "analysis") -> _Thing:
    if name not in found:
        raise PluginError(f"there is no such {kind} {name!r}", f"known are {', '.join(found)}")
    return found[name]


def _check_collisions(loaded: Iterable[LoadedPlugin]) -> None:
    loaded = list(loaded)
    specs = [(plugin, fmt.spec) for plugin in loaded for fmt in plugin.formats]
    claims = [
        *((f"format {spec.name!r}", plugin) for plugin, spec in specs),
        *((f"type id {spec.ggml_type} of dialect {spec.dialect!r}", plugin) for plugin, spec in specs),
        *((f"analysis {name!r}", plugin) for plugin in loaded for name in plugin.info.analyses),
        *((f"encoder {name!r}", plugin) for plugin in loaded for name in plugin.info.encoders),
        *((f"executor {name!r}", plugin) for plugin in loaded for name in plugin.info.executors),
        *((f"recipe prefix {name!r}", plugin) for plugin in loaded for name in plugin.info.recipes),
    ]
    refuse_collisions(claims)


def refuse_collisions(claims: Iterable[tuple[str, LoadedPlugin]]) -> None:
    """PluginError where several plugins claim the same thing: which of them is meant can't be guessed."""
    owners: dict[str, list[LoadedPlugin]] = {}
    for claim, plugin in claims:
        owners.setdefault(claim, []).append(plugin)
    problems = [
        Problem(
            what=f"{claim} is claimed by {' and by '.join(str(plugin.info.source) for plugin in plugins)}",
            remedy=f"uninstall one (pip uninstall {plugins[-1].info.distribution}), or use --no-plugins",
        )
        for claim, plugins in owners.items()
        if len(plugins) > 1
    ]
    if problems:
        raise PluginError(problems)
