"""Progress: who wants to hear how far `apply` is. The command line draws it; libraries may listen too."""

from __future__ import annotations

from typing import Protocol

from quantrecipe.tensor import TensorInfo

__all__ = ["Progress", "Silent"]


class Progress(Protocol):
    """Called from the thread that called `apply_plan`, in this order: compiling, start, then tensor and advance."""

    def compiling(self) -> None:
        """Kernels that this machine hasn't compiled yet are compiled now; nothing has been read."""

    def start(self, weights: int) -> None:
        """Reading begins; so many weights are ahead."""

    def tensor(self, tensor: TensorInfo, types: tuple[str, ...]) -> None:
        """The tensor is being read; it becomes these types, one for each way in which the outputs want it."""

    def advance(self, weights: int, read: int, written: int) -> None:
        """So many weights more are done; `read` and `written` are bytes."""


class Silent:
    """Hears nothing."""

    def compiling(self) -> None: ...

    def start(self, weights: int) -> None: ...

    def tensor(self, tensor: TensorInfo, types: tuple[str, ...]) -> None: ...

    def advance(self, weights: int, read: int, written: int) -> None: ...
