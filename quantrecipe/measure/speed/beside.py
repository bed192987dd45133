"""Timing a file beside another one: turn by turn, so that what else the machine does slows both.

A machine that does other things, or gets warm, is slower for minutes; then even the shortest of many times is too long.
The ratio of two files that are timed in turns is the same as on a quiet machine, or nearly. So a file's time is that
ratio times the shortest time of the file beside it, which is timed all along.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from quantrecipe.engine import Engine, Session
from quantrecipe.engine.language_model import LanguageModel
from quantrecipe.engine.session import Log, Tell

__all__ = ["Beside", "Times", "median"]

_ANSWER = 12
"""Tokens of each file in a turn. The quickest third counts, as long as the other file has its own."""
_THIRD = 3
_TURNS = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Times:
    """Values for a token of an answer and for one of a prompt: seconds, or ratios."""

    token: float
    prompt: float


@dataclass(kw_only=True)
class Beside:
    """A file that stays open, and beside which others are timed; a context manager.

    prompt:  tokens of the prompts
    quickest: seconds of the file that stays open, where nothing disturbed it
    """

    path: Path
    prompt: int
    engine: Engine
    threads: int | None = None
    gpu: bool = False
    log: Log | None = None
    _session: Session | None = field(default=None, init=False)
    _seen: list[Times] = field(default_factory=list, init=False)

    def __enter__(self) -> Self:
        self._session = self._open(self.path)
        self._session.__enter__()
        self._turn(self._session)  # what is read for the first time takes longer
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            self._session.__exit__(kind, error, trace)

    @property
    def quickest(self) -> Times:
        """Seconds of the file that stays open, where nothing disturbs it."""
        return Times(
            token=min(times.token for times in self._seen), prompt=min(times.prompt for times in self._seen)
        )

    def ratios(self, path: Path, *, turns: int = _TURNS) -> list[Times]:
        """How many times as long as the file that stays open another one takes, in each of so many turns.

        EvaluationError where it doesn't run.
        """
        if self._session is None:
            raise AssertionError("it isn't open")
        found = []
        with self._open(path) as session:
            self._turn(session)
            before = self._base()
            for _ in range(turns):
                times = self._turn(session)
                after = self._base()
                found.append(
                    Times(
                        token=2 * times.token / (before.token + after.token),
                        prompt=2 * times.prompt / (before.prompt + after.prompt),
                    )
                )
                before = after
        return found

    def _base(self) -> Times:
        if self._session is None:
            raise AssertionError("it isn't open")
        times = self._turn(self._session)
        self._seen.append(times)
        return times

    def _turn(self, session: Session) -> Times:
        whole, each = session.call(_times, self.prompt, _ANSWER)
        quick = sorted(each)[: max(1, len(each) // _THIRD)]
        return Times(token=sum(quick) / len(quick), prompt=whole / self.prompt)

    def _open(self, path: Path) -> Session:
        gpu_layers = None if self.gpu else 0
        return Session(path, threads=self.threads, gpu_layers=gpu_layers, engine=self.engine, log=self.log)


def median(found: list[Times], of: Callable[[Times], float]) -> float:
    """The middle one of what was found in several turns."""
    values = sorted(map(of, found))
    middle = len(values) // 2
    return values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) / 2


def _times(model: LanguageModel, prompt: int, answer: int, *, tell: Tell) -> tuple[float, list[float]]:
    return model.times(prompt, answer)
