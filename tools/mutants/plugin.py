"""What pytest loads: it measures which tests run which lines, or puts a changed module in the place of a module.

It gets a task, a JSON file that the environment variable QUANTRECIPE_MUTANTS names:

    {"measure": "result.json", "sources": ["…/plan", …], "packages": ["quantrecipe.plan", …]}
    {"module": "quantrecipe.plan.plan_of", "file": "…/plan_of.py", "source": "changed.py", "tests": […],
     "result": "result.json"}

`tests` are the ids of the tests to run, in this order; without `module` they are run on the program as it is.
"""

from __future__ import annotations

import functools
import json
import os
import resource
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import pytest

_MEMORY = 24 << 30
_FILE = 16 << 30
"""Bytes of address space and of a file: a mutant that goes on for ever must not take the machine with it."""


class _Changed(SourceFileLoader):
    """Loads a module from its changed text; tracebacks and `__file__` stay those of the module."""

    def __init__(self, name: str, path: str, text: str) -> None:
        super().__init__(name, path)
        self._text = text

    def get_code(self, fullname: str) -> CodeType:
        return compile(self._text, self.path, "exec", dont_inherit=True)


class _Finder:
    """Finds the one changed module; it goes before all other finders."""

    def __init__(self, name: str, file: str, text: str) -> None:
        self._name, self._file, self._text = name, file, text

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != self._name:
            return None
        folders = [str(Path(self._file).parent)] if self._file.endswith("__init__.py") else None
        loader = _Changed(name, self._file, self._text)
        return spec_from_file_location(name, self._file, loader=loader, submodule_search_locations=folders)


class Trial:
    """Runs the tests of the task, in its order, until one fails."""

    def __init__(self, task: dict[str, Any]) -> None:
        self._rank = {name: i for i, name in enumerate(task["tests"])}
        self._result = Path(task["result"])
        self._failed: list[str] = []
        self._run = 0
        if "module" in task:
            text = Path(task["source"]).read_text(encoding="utf-8")
            sys.meta_path.insert(0, _Finder(task["module"], task["file"], text))
            resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
            resource.setrlimit(resource.RLIMIT_FSIZE, (_FILE, _FILE))

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted(
            (it for it in items if it.nodeid in self._rank), key=lambda it: self._rank[it.nodeid]
        )

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._run += report.when == "call"
        if report.failed:
            self._failed.append(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        self._result.write_text(json.dumps({"failed": self._failed, "run": self._run}), encoding="utf-8")


class Measure:
    """Notes for each test that passes the seconds it takes and the lines that it runs.

    What a fixture of a module runs belongs to all tests that use it, though it runs once; caches are emptied before
    each test, so that what they keep is run again.
    """

    def __init__(self, task: dict[str, Any]) -> None:
        import coverage  # here, because a trial has no use for it

        self._result = Path(task["measure"])
        self._sources = task["sources"]
        self._packages = tuple(task["packages"])
        self._coverage = coverage.Coverage(data_file=None, config_file=False, source=self._sources)
        self._coverage.set_option("run:core", "ctrace")  # sys.monitoring knows no contexts
        self._coverage.start()
        self._seconds: dict[str, float] = defaultdict(float)
        self._failed: set[str] = set()
        self._users: dict[str, list[str]] = defaultdict(list)
        self._caches: tuple[int, list[Any]] = (0, [])
        self._context = ""

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for item in session.items:
            for definitions in item._fixtureinfo.name2fixturedefs.values():  # type: ignore[attr-defined]  # functions
                for it in definitions:
                    if it.scope != "function":
                        self._users[_fixture(it)].append(item.nodeid)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self._empty_caches()
        self._switch(item.nodeid)
        began = time.perf_counter()
        try:
            return (yield)
        finally:
            self._seconds[item.nodeid] = time.perf_counter() - began
            self._switch("")

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Iterator[None]:
        before = self._context
        if fixturedef.scope != "function":
            self._switch(_fixture(fixturedef))
        try:
            return (yield)
        finally:
            self._switch(before)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not report.passed:
            self._failed.add(report.nodeid)  # a skipped test, too

    def pytest_sessionfinish(self) -> None:
        self._coverage.stop()
        data = self._coverage.get_data()
        lines: dict[str, dict[str, dict[int, None]]] = {}
        for file in data.measured_files():
            by_test: dict[str, list[int]] = defaultdict(list)
            for line, contexts in data.contexts_by_lineno(file).items():
                tests = {test for context in contexts for test in self._users.get(context, [context])}
                for test in tests - self._failed:
                    by_test[test].append(line)
            lines[file] = by_test  # type: ignore[assignment]  # JSON
        seconds = {test: took for test, took in self._seconds.items() if test not in self._failed}
        self._result.write_text(json.dumps({"seconds": seconds, "lines": lines}), encoding="utf-8")

    def _switch(self, context: str) -> None:
        self._context = context
        self._coverage.switch_context(context)

    def _empty_caches(self) -> None:
        if self._caches[0] != len(sys.modules):
            modules = [it for name, it in list(sys.modules.items()) if name.startswith(self._packages)]
            kind = functools._lru_cache_wrapper
            found = {id(it): it for module in modules for it in vars(module).values() if isinstance(it, kind)}
            self._caches = len(sys.modules), list(found.values())
        for cache in self._caches[1]:
            cache.cache_clear()


def _fixture(definition: Any) -> str:
    return f"fixture {definition.baseid}::{definition.argname}"


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(_PLUGIN)


def _plugin() -> Measure | Trial:
    task = json.loads(Path(os.environ["QUANTRECIPE_MUTANTS"]).read_text(encoding="utf-8"))
    return Measure(task) if "measure" in task else Trial(task)


_PLUGIN = _plugin()  # at once: coverage and the changed module have to come before the first import
