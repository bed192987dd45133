"""Scene: what a run makes, what has to be there in the end, and what may be there before."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from quantrecipe.output.store.store import Store
from quantrecipe.output.store.upkeep import damage_of, entries_of

__all__ = ["Scene", "nobody"]


def nobody() -> None:
    """Nobody else is at work."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """A run into `folder`, which is empty but for what `before` has put there.

    run:    (force): the run; what it raises is what the user sees
    peace:  what each file has to be
    older:  what a file may be besides, before
    store:  whether there is one, in folder/store
    beside: what another process does meanwhile, which doesn't fail
    noted:  a journal of JSON lines, in folder: what a run has noted no later one loses
    stays:  patterns of other files that may be there in the end
    """

    name: str
    folder: Path
    run: Callable[[bool], object]
    peace: dict[Path, bytes]
    older: dict[Path, bytes] = field(default_factory=dict)
    store: bool = False
    beside: Callable[[], None] = nobody
    noted: str = ""
    stays: tuple[str, ...] = ()

    def begin(self) -> None:
        """Make it as it is before."""
        for path in sorted(self.folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        for path, data in self.older.items():
            path.write_bytes(data)

    def wrong_file(self) -> str:
        """What is wrong under a final name, "" if nothing is."""
        for path, data in self.peace.items():
            if path.exists() and path.read_bytes() not in (data, self.older.get(path)):
                return f"{path.name} is neither whole nor what it was"
        return ""

    def wrong(self) -> str:
        """The same, and what is wrong in the store."""
        if wrong := self.wrong_file():
            return wrong
        if self.store and (self.folder / "store").exists():
            for found in entries_of(Store(self.folder / "store")):
                if damage := damage_of(found):
                    return f"{found.path} {damage}"
        return ""

    def some_named(self) -> bool:
        """Whether a run that ended between the names of several files has given some of them."""
        return any(path.exists() for path in self.peace if path not in self.older)

    def flip(self, draw: random.Random) -> Path | None:
        """Change a bit of something that a run has left for the next one."""
        found = [path for path in self.folder.rglob("*") if path.is_file() and path.stat().st_size]
        found = sorted(path for path in found if path not in self.peace and path.parent.name != "new")
        if not found:
            return None
        path = draw.choice(found)
        data = bytearray(path.read_bytes())
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        path.write_bytes(data)
        return path

    def done(self) -> bool:
        """Whether all files are what they have to be."""
        return all(path.exists() and path.read_bytes() == data for path, data in self.peace.items())

    def left(self) -> list[str]:
        """What is there besides, in the end."""
        found = {path for path in self.folder.rglob("*") if path.is_file()}
        expected = {path for pattern in (*self.stays, "store/**/*") for path in self.folder.glob(pattern)}
        return sorted(str(path.relative_to(self.folder)) for path in found - expected - self.peace.keys())

    def notes(self) -> frozenset[str] | None:
        """What the journal says by now; None where there is none."""
        path = self.folder / self.noted
        if not self.noted or not path.exists():
            return None
        lines = path.read_bytes().split(b"\n")[:-1]
        whole = [json.loads(line) for line in lines if line.endswith(b'"}') and b"\0" not in line]
        return frozenset(
            json.dumps({k: v for k, v in line.items() if k not in ("disk", "check")}) for line in whole
        )
