"""Progress: who wants to hear how far `apply` is. The command line draws it; libraries may listen too."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from quantrecipe.tensor import TensorInfo

__all__ = ["Progress", "Silent"]


class Progress(Protocol):
    """Called from the thread that called `apply_plan`, in this order: resumed, compiling, start, tensor, advance;
    `told` at any time.

    What doesn't happen isn't told.
    """

    def compiling(self, number: int, total: int, what: str) -> None:
        """A kernel that isn't in the cache is compiled now, one of `total`: "Q4_K encode". Nothing has been read."""

    def resumed(self, part: Path, share: float) -> None:
        """An earlier run left this share of its work in the part, which is checked and kept."""

    def started_over(self, part: Path, why: str) -> None:
        """An earlier run left a part that can't be gone on with."""

    def kept(self, part: Path, share: float) -> None:
        """The run ends before its time, and this share of its work stays in the part. Told where no error says it."""

    def told(self, what: str) -> None:
        """Something about the workers of an executor that doesn't end the run: "node 7 has gone away"."""

    def start(self, weights: int) -> None:
        """Reading begins; so many weights are ahead."""

    def tensor(self, tensor: TensorInfo, types: tuple[str, ...]) -> None:
        """The tensor is being read; it becomes these types, one for each way in which the outputs want it."""

    def advance(self, weights: int, read: int, written: int) -> None:
        """So many weights more are done; `read` and `written` are bytes."""


class Silent:
    """A Progress for whoever doesn't want to hear anything."""

    def compiling(self, number: int, total: int, what: str) -> None: ...

    def resumed(self, part: Path, share: float) -> None: ...

    def started_over(self, part: Path, why: str) -> None: ...

    def kept(self, part: Path, share: float) -> None: ...

    def told(self, what: str) -> None: ...

    def start(self, weights: int) -> None: ...

    def tensor(self, tensor: TensorInfo, types: tuple[str, ...]) -> None: ...

    def advance(self, weights: int, read: int, written: int) -> None: ...
