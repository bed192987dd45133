"""ChangedSources: whether the model's files are what they were when the run began. One that takes a night may meet a
download that begins anew, or a colleague who replaces a shard.

Size, time of change and inode say that nothing has happened. Where they are others, the bytes decide: they are read
once more, so that a `touch` costs minutes and not the night.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from quantrecipe.errors import ModelError
from quantrecipe.model.model import Model
from quantrecipe.model.source.digest import Digest
from quantrecipe.model.tensor_reader import TensorReader
from quantrecipe.remote_files import remote_file

__all__ = ["ChangedSources"]

_Facts = tuple[int, int, int, int]


class ChangedSources:
    """To be made before anything is read, and asked when all has been."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._before = _facts_of(model.files)

    def require_none(self, digests: Mapping[str, str]) -> None:
        """ModelError where a tensor's bytes are others by now. digests: of what was read, by name."""
        now = _facts_of(self._model.files)  # a file that is gone was read while it was there
        changed = {path for path, facts in now.items() if self._before.get(path) != facts}
        if not changed:
            return
        with TensorReader() as reader:
            for name, digest in digests.items():
                source = self._model.sources[name]
                if found := {extent.path for extent in source.extents} & changed:
                    again = Digest(source)
                    again.finish(reader, tensor=name)
                    if again.hexdigest() != digest:
                        raise ModelError(
                            f"has changed while it was read: {name} isn't what it was",
                            "wait until nothing writes to it, and run again",
                            file=min(found),
                        )


def _facts_of(files: Sequence[Path]) -> dict[Path, _Facts]:
    found = {}
    for path in files:
        if remote_file(path) is None:
            with suppress(FileNotFoundError):
                status = path.stat()
                found[path] = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    return found
