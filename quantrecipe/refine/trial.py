"""tried: what an encoder made and what plain encoding makes, both run over held-out text; the better one is kept.

An encoder that knows the inputs lowers the error of every matrix on the texts that it knows. On others, and in the
model as a whole, that may be worth nothing. So plain encoding is kept unless the mean KL divergence of the other is
less with the whole 95 % interval of the paired difference: both are run over the same chunks, and whole chunks or
documents are drawn again and again (`evaluate.resampling`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, Unpack

from quantrecipe.engine import RunOptions
from quantrecipe.errors import EvaluationError, OutputError
from quantrecipe.evaluate import (
    Pair,
    Text,
    blocks_of,
    compare_files,
    draw,
    make_reference,
    score,
    summarise,
)
from quantrecipe.evaluate.requests import Progress
from quantrecipe.evaluate.resampling import FEWEST_BLOCKS
from quantrecipe.output.apply import apply_plans
from quantrecipe.output.progress import Progress as ApplyProgress
from quantrecipe.output.progress import Silent
from quantrecipe.output.transform import Nan
from quantrecipe.output.unquantized import unquantized
from quantrecipe.plan.plan import Plan
from quantrecipe.registry import Registry

__all__ = ["Trial", "tried"]

T = TypeVar("T")
Bar: TypeAlias = Callable[[], AbstractContextManager[T]]

_NOISE_CHUNKS = 8
"""That are run a second time, with other batches, for what the engine differs from itself; as `eval` has it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """Both files beside the unquantized model.

    text:      what was read
    positions: that were compared
    encoded:   mean KL divergence of the encoder's file, in nats
    plain:     that of plain encoding
    beside:    the encoder's file beside the plain one
    plan:      of the file that is kept
    file:      where it is, for as long as `tried` lasts
    """

    text: str
    positions: int
    encoded: float
    plain: float
    beside: Pair
    plan: Plan
    file: Path

    @property
    def better(self) -> bool:
        """True where the encoder's file is surely better."""
        return surely_better(self.beside)

    def to_json(self) -> dict[str, Any]:
        """What is printed of it, in this order."""
        return {
            "text": self.text,
            "positions": self.positions,
            "kld_mean": self.encoded,
            "plain_kld_mean": self.plain,
            "kept": "encoder" if self.better else "plain",
            "beside": self.beside,
        }


def surely_better(beside: Pair) -> bool:
    """True where the whole interval of the change says less, and the difference is more than the engine's noise."""
    known = beside.kld_mean.known
    return known is not None and known[1] < 0 and beside.verdict != "noise"


@contextmanager
def tried(
    plan: Plan,
    plain: Plan,
    texts: Sequence[Text],
    *,
    folder: Path,
    registry: Registry,
    nan: Nan = "error",
    reuse: Path | None = None,
    store: Path | None = None,
    applying: Bar[ApplyProgress] | None = None,
    scoring: Bar[Callable[[str], Progress]] | None = None,
    **running: Unpack[RunOptions],
) -> Iterator[Trial]:
    """Make both files in a temporary folder within `folder`, and run them over texts that gave no statistics.

    plain:    the plan of the same recipe without encoders
    applying: opens what is told how far encoding is
    scoring:  opens what gives, by the name of what is run, what is told after each chunk. One is closed before another
              is opened
    OutputError where there is no room for both; EvaluationError where a model can't be run, or the texts are too short
    to tell two files apart.
    """
    threads = running.get("threads")
    try:
        place = tempfile.TemporaryDirectory(prefix=".quantrecipe-trial-", dir=folder)
    except OSError as error:
        what = f"can't make a folder for the trial in {folder}: {error.strerror or error}"
        raise OutputError(what, "write to another folder") from error
    applying = applying or (lambda: nullcontext(Silent()))
    scoring = scoring or (lambda: nullcontext(lambda _: lambda done, total: None))
    with place as name:
        here = Path(name)
        with unquantized(plan.model, registry, here, threads=threads) as path, scoring() as task:
            # First, since a text may be too short, and encoding takes long.
            reference = make_reference(
                path,
                texts,
                here / "reference",
                noise_chunks=_NOISE_CHUNKS,
                progress=task(f"{plan.model.path.name} (reference)"),
                **running,
            )
        blocks = blocks_of(reference)
        if blocks.count < FEWEST_BLOCKS:
            what = (
                f"the held-out text has {blocks.count} chunks or documents, and fewer than {FEWEST_BLOCKS} can't tell "
                "two files apart"
            )
            raise EvaluationError(what, "give more text; a hundred chunks are better")
        with applying() as told:
            made = apply_plans(
                [(plan, here / "encoded.gguf"), (plain, here / "plain.gguf")],
                registry=registry,
                threads=threads,
                nan=nan,
                reuse=reuse,
                store=store,
                progress=told,
            )
        with scoring() as task:
            ours, theirs = (score(it.path, reference, progress=task(it.path.stem), **running) for it in made)
        figures, base = summarise(ours), summarise(theirs)
        beside = compare_files(
            (figures, draw(ours, blocks)), (base, draw(theirs, blocks)), blocks, reference.noise
        )
        kept = surely_better(beside)
        yield Trial(
            text=", ".join(text.name for text in texts),
            positions=len(ours),
            encoded=figures.kld_mean,
            plain=base.kld_mean,
            beside=beside,
            plan=plan if kept else plain,
            file=made[0 if kept else 1].path,
        )
