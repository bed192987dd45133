"""RemotePlace: where a file is, and how its bytes come from there."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

__all__ = ["RemotePlace"]


class RemotePlace(ABC):
    """A frozen value, which travels to other processes. There is nothing secret in it: tokens and keys are found where
    it is used.
    """

    __slots__ = ()

    @property
    @abstractmethod
    def size(self) -> int:
        """In bytes, as the other side said when it was first asked."""

    @property
    @abstractmethod
    def sha256(self) -> str:
        """Of the whole file, in hex; "" where the other side doesn't say."""

    @property
    @abstractmethod
    def identity(self) -> str:
        """What is the same in two runs where the bytes are."""

    @property
    @abstractmethod
    def key(self) -> str:
        """The name of the folder of its blocks: of this file, and of what it is now."""

    @property
    @abstractmethod
    def folder(self) -> Path:
        """Where the blocks of this file and of those beside it are kept on the machine that asks."""

    @property
    def hashed(self) -> bool:
        """Files are held against a hash there, as far as it is known; else it is asked whether they have changed."""
        return False

    @abstractmethod
    def fetch(self, start: int, count: int) -> bytes:
        """`count` bytes from `start` on; from any thread. ModelError where they can't be had."""

    def require_unchanged(self) -> None:
        """ModelError where another file is there by now. Nothing where that can't be: a commit stays as it is."""
        return

    @abstractmethod
    def __str__(self) -> str:
        """What people call it."""
