"""Preparations: what encoders know of inputs, computed once for all rows of all tensors that have the input."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantrecipe.errors import ImportanceError
from quantrecipe.plan.plan import Assignment
from quantrecipe.plan.statistics import Statistics, input_statistics, matrix_of

__all__ = ["Make", "Preparations"]

Make = Callable[[NDArray[np.float32], NDArray[np.float32] | None, NDArray[np.uint8]], object]
"""(rows, importance, out): fill out."""

_KEPT = 2
"""Two inputs of a layer take turns: attn_k, attn_output, attn_q. Each takes twice the square of its columns."""


@dataclass(slots=True)
class _Slot:
    lock: threading.Lock = field(default_factory=threading.Lock)
    done: bool = False
    value: Any = None
    remark: str = ""


class Preparations:
    """What was prepared last, for any number of threads: the first that needs something makes it, others wait.

    threads: how many prepare one thing together
    remarks: what encoders have to say, by tensor and encoding, for each matrix that they have something to say of
    """

    def __init__(self, threads: int) -> None:
        self.remarks: dict[tuple[str, str], dict[int, str]] = {}
        self._threads = threads
        self._lock = threading.Lock()
        self._slots: OrderedDict[tuple[object, ...], _Slot] = OrderedDict()

    def make(self, a: Assignment, statistics: Statistics | None, expert: int) -> Make | None:
        """What makes the bytes of rows of an expert; None where the format does it by itself.

        ImportanceError, naming the tensor, where the encoder can't use the statistics.
        """
        encoder, number = a.encoder, self._number(a, statistics, expert)
        if encoder is None or number is None:
            return None
        key = (
            encoder.name,
            tuple(sorted(encoder.options.items())),
            a.made_of,
            number,
            encoder.shares(a.format),
        )
        with self._lock:
            slot = self._slots.setdefault(key, _Slot())
            self._slots.move_to_end(key)
            while len(self._slots) > _KEPT:
                self._slots.popitem(last=False)
        with slot.lock:
            if not slot.done:
                slot.value = self._prepared(a, statistics, number)
                slot.remark = encoder.remark(slot.value)
                slot.done = True
        if slot.remark:
            with self._lock:
                self.remarks.setdefault((a.tensor.name, a.encoding), {})[number] = slot.remark
        return partial(_made, a, slot.value)

    def remark(self, a: Assignment, statistics: Statistics | None, expert: int) -> tuple[int, str] | None:
        """The number of the matrix that rows of an expert were made with, and what was said of it, if anything."""
        number = None if a.encoder is None else self._number(a, statistics, expert)
        said = "" if number is None else self.remarks.get((a.tensor.name, a.encoding), {}).get(number, "")
        return None if number is None or not said else (number, said)

    def remember(self, a: Assignment, remark: tuple[int, str] | None) -> None:
        """Take note of what was said of a matrix when an earlier run made rows with it."""
        if remark is not None:
            with self._lock:
                self.remarks.setdefault((a.tensor.name, a.encoding), {})[remark[0]] = remark[1]

    @staticmethod
    def _number(a: Assignment, statistics: Statistics | None, expert: int) -> int | None:
        """Of the matrix of an expert's inputs; None where it can't be used."""
        if statistics is None or not a.inputs or a.encoder is None:
            return 0
        return matrix_of(statistics.entry(a.inputs), expert, a.encoder)

    def _prepared(self, a: Assignment, statistics: Statistics | None, number: int) -> Any:
        encoder = a.encoder
        if encoder is None:
            return None
        if statistics is None or not a.inputs:
            return encoder.prepare(None, fmt=a.format, threads=self._threads)
        try:
            given = input_statistics(statistics, a.inputs, number)
            return encoder.prepare(given, fmt=a.format, threads=self._threads)
        except ImportanceError as error:
            problem = error.problems[0]
            what = f"{a.tensor.name}: {problem.what}"
            raise ImportanceError(what, problem.remedy, file=problem.file or statistics.folder) from error


def _made(
    a: Assignment,
    prepared: Any,
    rows: NDArray[np.float32],
    importance: NDArray[np.float32] | None,
    out: NDArray[np.uint8],
) -> None:
    if a.encoder is not None:
        a.encoder.encode(rows, a.format, importance, prepared, out=out)
