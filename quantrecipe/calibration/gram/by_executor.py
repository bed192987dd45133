"""Gram matrices by an executor's workers: each takes a pass over the texts for some of the inputs, and writes files.

Sums of a pass are as large as memory allows, so nothing of them is sent: a worker reads all of the texts, adds up in
the order in which one process does it, and leaves whole files in a folder of its own:

    FOLDER/DIGEST/worker-0badcafe/blk.0.attn_q.weight.npy

When it is done, the command gives them their names, and notes them in the index. So whatever a worker leaves that died,
or that another one was quicker than, has no name; it goes away with the run.
"""

from __future__ import annotations

import platform
import secrets
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from quantrecipe.calibration.by_executor import Elsewhere
from quantrecipe.calibration.gram.collect import Pass, collect_grams
from quantrecipe.calibration.gram.folder import GramEntry
from quantrecipe.calibration.gram.passes import Memory, by_memory, memory_beside
from quantrecipe.engine.language_model import LanguageModel
from quantrecipe.engine.session import Tell
from quantrecipe.errors import OutputError

__all__ = ["Share", "collect_share", "made_elsewhere", "memory_there", "remove_shares"]

_OWN = "worker-"
_SHARED = "name a folder with --gram that all machines see"


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """A pass, as a worker gets it.

    visits:  names of inputs, as often as a graph comes to them
    workers: how many there may be on its machine
    """

    work: Pass
    visits: tuple[str, ...]
    workers: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _Made:
    """Files that a worker has written, in a folder of this name."""

    folder: str
    entries: tuple[GramEntry, ...]


def memory_there(model: LanguageModel, workers: int, *, tell: Tell) -> Memory:
    """Of a worker's machine."""
    return memory_beside(Path(model.path), workers)


def collect_share(model: LanguageModel, share: Share, *, tell: Tell) -> _Made:
    """What a worker does for a pass. Errors as for `collect_grams`; OutputError where it doesn't see the folder.

    Machines differ: where this one has less memory than the pass takes, the texts are read more than once.
    """
    folder = share.work.folder
    if not folder.is_dir():
        raise OutputError(f"the worker on {platform.node()} doesn't see the folder {folder}", _SHARED)
    own = folder / f"{_OWN}{secrets.token_hex(4)}"
    own.mkdir()
    entries: list[GramEntry] = []

    def hear(what: object) -> None:
        if isinstance(what, GramEntry):
            entries.append(what)

    try:
        for one in _fitting(Path(model.path), share):
            collect_grams(model, replace(one, folder=own), tell=hear)
    except BaseException:
        shutil.rmtree(own, ignore_errors=True)
        raise
    return _Made(folder=own.name, entries=tuple(entries))


def made_elsewhere(
    elsewhere: Elsewhere, shares: Sequence[tuple[int, Share]], folder: Path
) -> Iterator[tuple[GramEntry, ...]]:
    """What is in the files of each pass, as they are finished: by then they have their names in the folder.

    shares: how much work each is, and the pass. The first are begun first
    OutputError where this machine doesn't see what a worker wrote.
    """
    calls = [(work, (share,)) for work, share in shares]
    made: _Made
    for made in elsewhere.each(collect_share, calls, "pass over the texts", in_order=False):
        own = folder / made.folder
        for entry in made.entries:
            name = f"{entry.name}.npy"
            try:
                (own / name).replace(folder / name)
            except OSError as error:
                what = f"what a worker wrote can't be taken ({error.strerror or error})"
                raise OutputError(what, _SHARED, file=own / name) from error
        shutil.rmtree(own, ignore_errors=True)
        yield made.entries


def remove_shares(folder: Path) -> None:
    """Remove what workers have left. None of them may be at work."""
    for left in folder.glob(f"{_OWN}*"):
        shutil.rmtree(left, ignore_errors=True)


def _fitting(model: Path, share: Share) -> Iterator[Pass]:
    """The pass; or several, of which each has its room here."""
    work = share.work
    memory = memory_beside(model, share.workers)
    parts = [list(work.inputs)]
    if sum(it.memory for it in work.inputs) > memory.left:
        parts = by_memory(work.inputs, memory.room)
    for inputs in parts:
        names = {it.name for it in inputs}
        wanted = [name for name in share.visits if name in names]
        yield replace(work, inputs=tuple(inputs), last=(len(wanted), wanted[-1]))
