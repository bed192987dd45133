"""ProbesElsewhere: probes and mixes that the workers of an executor measure, each in a resident model of its own.

    expect    a probe that may be asked for soon is begun, where a worker would have nothing to do
    moved     what a probe did, for whoever asks; it is begun before all others
    mixed     the same of a mix

Which probe comes next depends on what those before it have found, so this can't be a list of tasks. Who decides it
guesses what will be asked, several questions ahead. A wrong guess costs time that nobody needed; what is asked, and
what is kept, is the same as without an executor. Errors of a guess are told if somebody asks for it.

Workers open the model that the user has, or the file that was made of it for probes, which is in a folder that all
machines see. What the process of llama.cpp dies of is a lost task, and the worker opens the model again.
"""

from __future__ import annotations

import platform
import shutil
import tempfile
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

from quantrecipe.api import LostTaskError, Order, Task, sendable
from quantrecipe.engine import engine_facts, find_engine, named_engine
from quantrecipe.errors import EvaluationError, ModelError, QuantrecipeError
from quantrecipe.executors.run_tasks import run_tasks
from quantrecipe.measure.mixed import Mixed, mixed
from quantrecipe.measure.open_resident import ResidentInSession, held_in, open_in_session
from quantrecipe.measure.passes import Part
from quantrecipe.measure.progress import Silent
from quantrecipe.measure.resident import Moved, Setting, Wish
from quantrecipe.model.open_model import open_model
from quantrecipe.output.shares.same_there import keys_of, packages_of, require_same
from quantrecipe.output.shares.travelling import dumped, loaded
from quantrecipe.registry import Registry, load_registry
from quantrecipe.remote_files import remote_file

__all__ = ["ProbesElsewhere", "open_prober"]


@dataclass(slots=True, eq=False)
class _Asked:
    """A task that was asked for, or is expected to be."""

    task: Task
    begun: bool = False
    wanted: bool = False


class ProbesElsewhere:
    """type: of the resident model, which is the same in all workers."""

    def __init__(self, setting: Setting, names: Mapping[str, str], stack: ExitStack) -> None:
        """setting: its passes have an executor. names: tensors that are probed. stack: ends the workers

        EvaluationError where llama.cpp can't exchange weights; ModelError where workers couldn't read the model.
        """
        executor = setting.passes.executor
        assert executor is not None  # noqa: S101  # who has none probes in this process
        self._setting, self._stack = setting, stack
        engine = find_engine(setting.passes.engine)
        facts = engine_facts(engine)
        if facts.sealed:
            what = f"workers can't probe, since this llama.cpp can't exchange weights: {facts.sealed}"
            raise EvaluationError(what, "leave out --executor, or use another llama.cpp with --engine")
        if any(remote_file(path) is not None for path in setting.model.files):
            raise ModelError(
                "lies on the hub, and workers read files",
                "download it (hf download)",
                file=setting.model.path,
            )
        held, self.type = held_in(setting, facts)
        setting.progress.stage(f"probes in {self.type}")
        setting.progress.say("workers open the model")
        own = held is setting.model
        passes = replace(setting.passes, executor=None, engine=None, resident=self.type)
        sent = (replace(setting.model, metadata={}), setting.importance, passes)
        given = {
            "sent": dumped(sent),
            "held": None if own else held.path.resolve(),
            "engine": named_engine(engine),
            "version": facts.version,
            "files": keys_of(_files(setting, () if own else held.files)),
            "names": sorted(names),
            "folder": setting.folder.resolve(),
            "plugins": setting.registry.plugins_on,
        }
        # Which types will be asked for isn't known yet, so workers need all plugins that have any.
        types = set(setting.registry.formats)
        order = Order(
            function=f"{__name__}:open_prober",
            given=given,
            packages=packages_of(setting.registry, types, set(setting.registry.encoders)),
            memory=sum(path.stat().st_size for path in held.files),
        )
        self._workers = stack.enter_context(executor.open(order))
        self._numbers = count()
        self._waiting: deque[_Asked] = deque()
        self._asked: dict[str, _Asked] = {}
        self._keys: dict[int, str] = {}
        self._found: dict[str, Any] = {}
        self._run = run_tasks(self._workers, self._tasks(), told=setting.progress.note)

    @property
    def width(self) -> int:
        """How many probes can be made at the same time."""
        return max(1, self._workers.width)

    def expect(self, key: str, wishes: Mapping[str, Wish], part: Part, what: str) -> None:
        """Begin this probe, where a worker would have nothing to do. key: by which it is known again"""
        self._ask(key, ("probe", self._sent(wishes), part), _work(part), what)

    def moved(self, key: str, wishes: Mapping[str, Wish], part: Part, what: str) -> Moved:
        """What a probe did. Errors as for `Resident.change` and `measure`."""
        self.expect(key, wishes, part, what)
        found: Moved = self._result(key)
        return found

    def expect_mix(self, key: str, wishes: Mapping[str, Wish], what: str) -> None:
        """As `expect`, a mix."""
        self._ask(key, ("mix", self._sent(wishes), (key, what)), _work(Part()), what)

    def mixed(self, key: str, wishes: Mapping[str, Wish], what: str) -> Mixed:
        """What a mix does to the output."""
        self.expect_mix(key, wishes, what)
        found: Mixed = self._result(key)
        return replace(found, what=what)  # another name may have been expected

    def _sent(self, wishes: Mapping[str, Wish]) -> bytes:
        return dumped(dict(wishes), [self._setting.importance])  # which a worker has

    def _ask(self, key: str, given: Any, work: int, what: str) -> None:
        if key in self._asked:
            return
        number = next(self._numbers)
        self._keys[number] = key
        self._asked[key] = _Asked(Task(number=number, given=given, nbytes=work, what=what))
        self._waiting.append(self._asked[key])

    def _result(self, key: str) -> Any:
        asked = self._asked[key]
        asked.wanted = True
        if not asked.begun:
            self._waiting.remove(asked)
            self._waiting.appendleft(asked)
        while key not in self._found:
            task, result = next(self._run)
            self._found[self._keys[task.number]] = result
        found = self._found[key]
        if isinstance(found, Exception):
            raise found
        return found

    def _tasks(self) -> Iterator[Task | None]:
        """Those that wait, one after the other: what is wanted at once, and what is expected where there is room."""
        while True:
            busy = sum(it.begun for it in self._asked.values()) - len(self._found)
            if self._waiting and (self._waiting[0].wanted or busy < self.width):
                asked = self._waiting.popleft()
                asked.begun = True
                yield asked.task
            else:
                yield None


def open_prober(given: Any, threads: int) -> Callable[[Any], Any]:
    """What probes where it is called. ModelError where files aren't the same there, EvaluationError for the engine."""
    require_same(given["files"])
    return _Prober(given, threads)


class _Prober:
    """A resident model, opened anew where the process that has it has died."""

    def __init__(self, given: Any, threads: int) -> None:
        self._given = given
        self._registry: Registry = load_registry(plugins=given["plugins"])
        self._model, self._importance, passes = loaded(given["sent"], self._registry)
        self._passes = replace(passes, threads=threads)
        self._resident = self._opened()

    def __call__(self, task: tuple[str, bytes, Any]) -> Any:
        what, sent, more = task
        if self._resident.died:
            self._end()
            self._resident = self._opened()
        try:
            self._resident.change(loaded(sent, self._registry, [self._importance]))
            if what == "probe":
                return self._resident.measure(more)
            key, name = more
            return mixed(key, name, self._resident.type, self._resident.score(), self._resident.blocks)
        except QuantrecipeError as error:
            if self._resident.died:
                raise LostTaskError(str(error)) from error
            return sendable(error, platform.node())  # raised where somebody asks for it

    def _opened(self) -> ResidentInSession:
        given, stack = self._given, ExitStack()
        parent = given["folder"]
        folder = tempfile.mkdtemp(prefix="worker-", dir=parent if parent.is_dir() else None)
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        self._end = weakref.finalize(self, stack.close)
        engine = find_engine(given["engine"])
        version = engine_facts(engine).version
        if version != given["version"]:
            raise EvaluationError(
                f"the worker on {platform.node()} has llama.cpp {version} (expected: {given['version']})",
                "have the same llama.cpp on all machines: others round in other ways",
            )
        held = self._model if given["held"] is None else open_model(given["held"], registry=self._registry)
        setting = Setting(
            model=self._model,
            registry=self._registry,
            importance=self._importance,
            passes=self._passes,
            folder=Path(folder),
            progress=Silent(),
        )
        return open_in_session(setting, held, self._passes.resident or "", given["names"], engine, stack)


def _work(part: Part) -> int:
    """How much work a probe is, beside others: a part of the text takes a part of the time."""
    return max(1, 64 // part.every)


def _files(setting: Setting, held: Iterable[Path]) -> Iterator[Path]:
    yield from setting.model.files
    yield from held
    if setting.importance is not None:
        yield setting.importance.path
