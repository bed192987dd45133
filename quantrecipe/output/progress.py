"""Progress: who wants to hear how far `apply` is. The command line draws it; libraries may listen too."""

from __future__ import annotations

from typing import Protocol

from quantrecipe.plan.plan import Assignment, Plan

__all__ = ["Progress", "Silent"]


class Progress(Protocol):
    """Called from the thread that called `apply_plan`, in this order: compiling, start, then tensor and advance."""

    def compiling(self, plan: Plan) -> None:
        """Kernels that this machine hasn't compiled yet are compiled now; nothing has been read."""

    def start(self, plan: Plan) -> None:
        """Reading begins."""

    def tensor(self, assignment: Assignment) -> None:
        """The tensor is being read."""

    def advance(self, weights: int, read: int, written: int) -> None:
        """So many weights more are done; `read` and `written` are bytes."""


class Silent:
    """Hears nothing."""

    def compiling(self, plan: Plan) -> None: ...

    def start(self, plan: Plan) -> None: ...

    def tensor(self, assignment: Assignment) -> None: ...

    def advance(self, weights: int, read: int, written: int) -> None: ...
