"""Plugins: find → check → load → validate. One broken plugin is a recorded failure, never a crash.

    find      entry points of group `quantrecipe`, without importing anything
    check     that the module was written for this version of `quantrecipe.api`, where it says so
    load      import it, hand it to pluggy, call its hooks and drain what they return
    validate  that what came back are formats, analyses and recipe folders that can be used

Each plugin gets a pluggy manager of its own, so that an exception, a wrapper or a half-made registration of
one can't reach another. (pluggy's own `load_setuptools_entrypoints` stops at the first that doesn't import.)
"""

from __future__ import annotations

import difflib
import importlib
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal, TypeVar

import pluggy

from quantrecipe import api, hookspecs
from quantrecipe.api import (
    Analysis,
    Encoder,
    Executor,
    FormatSpec,
    ModelAnalysis,
    QuantFormat,
    RecipeFolder,
    TensorAnalysis,
)
from quantrecipe.entry_points import entry_points
from quantrecipe.errors import PluginError
from quantrecipe.wording import shortened

__all__ = [
    "ENTRY_POINT_GROUP",
    "LoadedPlugin",
    "PluginInfo",
    "PluginSource",
    "check_name",
    "find_plugins",
    "load_plugin",
    "read_plugin",
]

ENTRY_POINT_GROUP = "quantrecipe"

_Kind = TypeVar("_Kind")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class PluginSource:
    """Where a plugin is, before anything of it is imported."""

    distribution: str
    name: str
    module: str
    version: str

    def __str__(self) -> str:
        return f"plugin {self.name!r} of {self.distribution} {self.version}"


@dataclass(frozen=True, kw_only=True, slots=True)
class PluginInfo:
    """What became of a plugin: where it is from, what it adds, or why it isn't there.

    notes: what its author should know: that it is written for an old version of the interface
    """

    source: PluginSource
    status: Literal["ok", "failed"]
    cause: str = ""
    formats: tuple[str, ...] = ()
    analyses: tuple[str, ...] = ()
    encoders: tuple[str, ...] = ()
    executors: tuple[str, ...] = ()
    recipes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name of the entry point."""
        return self.source.name

    @property
    def distribution(self) -> str:
        """The installed package that brings it."""
        return self.source.distribution

    @property
    def version(self) -> str:
        """The version of that package."""
        return self.source.version

    @property
    def module(self) -> str:
        """The module that implements the hooks."""
        return self.source.module


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadedPlugin:
    """A plugin's objects, checked one by one; whether they collide with others' the registry asks."""

    info: PluginInfo
    formats: tuple[QuantFormat, ...] = ()
    analyses: tuple[Analysis, ...] = ()
    encoders: tuple[Encoder, ...] = ()
    executors: tuple[Executor, ...] = ()
    recipes: tuple[RecipeFolder, ...] = ()
    manager: pluggy.PluginManager | None = None

    def later(self, hook: str, kind: type[_Kind], check: Callable[[_Kind], None]) -> tuple[_Kind, ...]:
        """What a hook returns that isn't called when plugins are loaded, since few commands need it.

        PluginError, with the plugin's name, for whatever goes wrong, and for what `check` refuses.
        """
        if self.manager is None:
            return ()
        try:
            found: tuple[_Kind, ...] = _objects(self.manager, hook, kind)
            for thing in found:
                check(thing)
        except MemoryError:
            raise
        except Exception as error:
            cause = " ".join(str(error).split()) or type(error).__name__
            remedy = f"pip uninstall {self.info.distribution}, or use --no-plugins"
            raise PluginError(f"{self.info.source}: {hook} failed: {cause}", remedy) from error
        return found


def find_plugins() -> tuple[PluginSource, ...]:
    """Every entry point of the group, ordered by package and name. Imports no plugin."""
    found = set()
    for point in entry_points(ENTRY_POINT_GROUP):
        source = PluginSource(
            distribution=point.distribution or "an unknown package",
            name=point.name,
            module=point.value,
            version=point.version,
        )
        found.add(source)
    return tuple(sorted(found))


def load_plugin(source: PluginSource) -> LoadedPlugin:
    """The plugin's objects; or, whatever it does wrong, a LoadedPlugin without any whose info says what.

    MemoryError and Ctrl-C are nobody's fault, and pass.
    """
    try:
        return read_plugin(source)
    except MemoryError:
        raise
    except PluginError as error:
        cause = str(error)
    except SystemExit as error:
        cause = f"it calls sys.exit({error.code!r}) when it is loaded"
    except Exception as error:  # noqa: BLE001  # a stranger's code may raise anything; the cause is kept and shown
        cause = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return LoadedPlugin(info=PluginInfo(source=source, status="failed", cause=" ".join(cause.split())))


def read_plugin(source: PluginSource) -> LoadedPlugin:
    """Load a plugin as `load_plugin` does, but raise what goes wrong."""
    module = importlib.import_module(source.module)
    notes = _check_version(module)
    manager = _register(module, source)
    formats = _objects(manager, "quantrecipe_formats", QuantFormat)
    analyses = _objects(manager, "quantrecipe_analyses", Analysis)
    encoders = _objects(manager, "quantrecipe_encoders", Encoder)
    executors = _objects(manager, "quantrecipe_executors", Executor)
    recipes = _objects(manager, "quantrecipe_recipes", RecipeFolder)
    for fmt in formats:
        _check_format(fmt)
    for analysis in analyses:
        _check_analysis(analysis)
    for encoder in encoders:
        _check_encoder(encoder)
    for executor in executors:
        _check_executor(executor)
    for folder in recipes:
        _check_folder(folder)
    info = PluginInfo(
        source=source,
        status="ok",
        formats=_once("format", (fmt.spec.name for fmt in formats)),
        analyses=_once("analysis", (analysis.name for analysis in analyses)),
        encoders=_once("encoder", (encoder.name for encoder in encoders)),
        executors=_once("executor", (executor.name for executor in executors)),
        recipes=_once("recipe prefix", (folder.prefix for folder in recipes)),
        notes=notes,
    )
    _once("type id", (f"{fmt.spec.ggml_type} ({fmt.spec.dialect})" for fmt in formats))
    return LoadedPlugin(
        info=info,
        formats=formats,
        analyses=analyses,
        encoders=encoders,
        executors=executors,
        recipes=recipes,
        manager=manager,
    )


def _check_version(module: ModuleType) -> tuple[str, ...]:
    """What is to be said of the version of the interface that the plugin is written for."""
    newest, oldest = api.API_VERSION, api.OLDEST_API_VERSION
    wanted = getattr(module, "QUANTRECIPE_API", newest)
    if not isinstance(wanted, int) or isinstance(wanted, bool):
        raise PluginError(
            f"QUANTRECIPE_API is {shortened(repr(wanted))}", f"write the number: QUANTRECIPE_API = {newest}"
        )
    written = f"it is written for version {wanted} of the plugin interface"
    if wanted > newest:
        raise PluginError(
            f"{written}; this quantrecipe has {newest}",
            "use a newer quantrecipe: pip install --upgrade . in a clone that is up to date",
        )
    if wanted < oldest:
        raise PluginError(
            f"{written}; this quantrecipe has {newest}, and {oldest} at least",
            "ask its author for a newer version",
        )
    return (
        (f"{written}, and {newest} is the newest: a later quantrecipe won't load it",)
        if wanted < newest
        else ()
    )


def _register(module: ModuleType, source: PluginSource) -> pluggy.PluginManager:
    manager = pluggy.PluginManager("quantrecipe")
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(module, source.name)
    except pluggy.PluginValidationError as error:
        raise PluginError(f"a hook has the wrong signature (hooks take no arguments): {error}") from error
    try:
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise PluginError(*_unknown_hook(manager, module)) from error
    if not manager.get_hookcallers(module):
        raise PluginError(
            f"its module {source.module} implements no hook",
            "mark its functions with quantrecipe.api.hookimpl, and name them after the hooks",
        )
    return manager


def _unknown_hook(manager: pluggy.PluginManager, module: ModuleType) -> tuple[str, str]:
    callers = manager.get_hookcallers(module) or []
    name = next(caller.name for caller in callers if not caller.has_spec())
    close = difflib.get_close_matches(name, hookspecs.__all__, 1)
    known = f"did you mean {close[0]}?" if close else f"hooks are {', '.join(hookspecs.__all__)}"
    return f"it implements {name}, which is no hook", known


def _objects(manager: pluggy.PluginManager, hook: str, kind: type[Any]) -> tuple[Any, ...]:
    """What the plugin's hook returns, drained here: a generator that fails does so inside the guard."""
    if not manager.hook.__dict__[hook].get_hookimpls():
        return ()
    results: list[Any] = getattr(manager.hook, hook)()
    if not results:  # pluggy drops None
        raise PluginError(f"{hook} returned None", f"return a list of {kind.__name__} objects")
    result = results[0]
    if not isinstance(result, Iterable) or isinstance(result, (str, bytes)):
        raise PluginError(
            f"{hook} returned {shortened(repr(result))}", f"return a list of {kind.__name__} objects"
        )
    objects = tuple(result)
    for thing in objects:
        if isinstance(thing, type) and issubclass(thing, kind):
            name = thing.__name__
            raise PluginError(f"{hook} returned the class {name}", f"return an instance: {name}()")
        if not isinstance(thing, kind):
            raise PluginError(f"{hook} returned {shortened(repr(thing))}, which is no {kind.__name__}")
    return objects


def _check_format(fmt: QuantFormat) -> None:
    spec = getattr(fmt, "spec", None)
    if not isinstance(spec, FormatSpec):
        raise PluginError(f"{type(fmt).__name__}.spec is {shortened(repr(spec))}, which is no FormatSpec")
    check_name("format", spec.name, fmt)
    if (
        min(spec.block, spec.block_bytes, spec.rows_per_group) < 1
        or min(spec.row_meta_bytes, spec.ggml_type) < 0
    ):
        raise PluginError(f"the numbers of format {spec.name} make no sense: {spec}")


def _check_analysis(analysis: Analysis) -> None:
    check_name("analysis", getattr(analysis, "name", None), analysis)
    if not isinstance(analysis, (TensorAnalysis, ModelAnalysis)):
        raise PluginError(
            f"analysis {analysis.name} is neither a TensorAnalysis nor a ModelAnalysis",
            "derive it from one of them (quantrecipe.api)",
        )
    _check_words("analysis", analysis)


def _check_encoder(encoder: Encoder) -> None:
    check_name("encoder", getattr(encoder, "name", None), encoder)
    _check_words("encoder", encoder)


def _check_executor(executor: Executor) -> None:
    check_name("executor", getattr(executor, "name", None), executor)
    _check_summary("executor", executor)


def _check_summary(kind: str, thing: Analysis | Encoder | Executor) -> None:
    if not isinstance(getattr(thing, "summary", None), str):
        raise PluginError(f"{kind} {thing.name} has no summary", 'add a line: summary = "…"')


def _check_words(kind: str, thing: Analysis | Encoder) -> None:
    _check_summary(kind, thing)
    if type(thing.version) is not int or thing.version < 1:
        raise PluginError(
            f"{kind} {thing.name} has the version {shortened(repr(thing.version))}", "count from 1"
        )


def _check_folder(folder: RecipeFolder) -> None:
    for part in folder.prefix.split("@", 1) if isinstance(folder.prefix, str) else [folder.prefix]:
        check_name("recipe prefix", part, folder)
    if not folder.folder.is_dir():
        raise PluginError(
            f"its recipe folder {folder.folder} doesn't exist", "include the recipes in the package's files"
        )


def check_name(kind: str, name: object, owner: object) -> None:
    """PluginError for what is no name of a format, an analysis, and so on."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise PluginError(
            f"{shortened(repr(name))} is no name for the {kind} of {type(owner).__name__}",
            "names are made of letters, digits, and any of _ . + -",
        )


def _once(kind: str, names: Iterable[str]) -> tuple[str, ...]:
    counts = Counter(names)
    if twice := [name for name, count in counts.items() if count > 1]:
        raise PluginError(f"it returns {kind} {twice[0]!r} twice")
    return tuple(counts)
