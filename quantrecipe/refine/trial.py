"""tried: what an encoder made and what plain encoding makes, both run over held-out text; the better one is kept.

An encoder that knows the inputs lowers the error of every matrix on the texts that it knows. On others, and in the
model as a whole, that may be worth nothing. So plain encoding is kept unless the mean KL divergence of the other is
less with the whole 95 % interval of the paired difference: both are run over the same chunks, and whole chunks or
documents are drawn again and again (`evaluate.resampling`).

If that is wanted, each layer is judged in the same way (`by_layer.py`), and where some lost, a third file is made in
which these are plain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar, Unpack

from quantrecipe.engine import RunOptions, engine_facts, find_engine
from quantrecipe.errors import EvaluationError
from quantrecipe.evaluate import (
    Blocks,
    Drawn,
    Evaluation,
    Pair,
    Reference,
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
from quantrecipe.output.work_folder import work_folder
from quantrecipe.plan.plan import Plan
from quantrecipe.refine.by_layer import JudgedLayer, judge_layers, surely_better
from quantrecipe.registry import Registry

__all__ = ["Trial", "tried"]

T = TypeVar("T")
Bar: TypeAlias = Callable[[], AbstractContextManager[T]]

Kept: TypeAlias = Literal["encoder", "encoder in part", "plain"]

_NOISE_CHUNKS = 8
"""That are run a second time, with other batches, for what the engine differs from itself; as `eval` has it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """The files beside the unquantized model, and beside each other.

    text:      what was read
    positions: that were compared
    encoded:   mean KL divergence of the file that the encoder made, in nats
    plain:     that of plain encoding
    in_part:   that of the file whose lost layers are plain; None where there is none
    layers:    what was found of each, if they were judged
    beside:    the better one of the files that an encoder has a part in, beside the plain one
    kept:      which file is kept
    plan:      of this file
    file:      where it is, for as long as `tried` lasts
    """

    text: str
    positions: int
    encoded: float
    plain: float
    in_part: float | None = None
    layers: Sequence[JudgedLayer] = ()
    beside: Pair
    kept: Kept
    plan: Plan
    file: Path

    @property
    def better(self) -> bool:
        """True where what an encoder made, all of it or in part, is surely better than plain encoding."""
        return self.kept != "plain"

    @property
    def lost(self) -> list[int]:
        """The layers of which plain encoding is surely better."""
        return [layer.number for layer in self.layers if layer.lost]

    def to_json(self) -> dict[str, Any]:
        """What is printed of it, in this order."""
        return {
            "text": self.text,
            "positions": self.positions,
            "kld_mean": self.encoded,
            "plain_kld_mean": self.plain,
            "in_part_kld_mean": self.in_part,
            "kept": self.kept,
            "beside": self.beside,
            "layers": self.layers,
        }


@contextmanager
def tried(
    plan: Plan,
    plain: Plan,
    texts: Sequence[Text],
    *,
    folder: Path,
    registry: Registry,
    in_part: Callable[[Sequence[int]], Plan] | None = None,
    nan: Nan = "error",
    reuse: Path | None = None,
    store: Path | None = None,
    applying: Bar[ApplyProgress] | None = None,
    scoring: Bar[Callable[[str], Progress]] | None = None,
    **running: Unpack[RunOptions],
) -> Iterator[Trial]:
    """Make both files in a temporary folder within `folder`, and run them over texts that gave no statistics.

    plain:    the plan of the same recipe without encoders
    in_part:  the plan of the same recipe with these layers plain. With it, each layer is judged, which takes a run each
    applying: opens what is told how far encoding is
    scoring:  opens what gives, by the name of what is run, what is told after each chunk. One is closed before another
              is opened
    OutputError where there is no room for both; EvaluationError where a model can't be run, where the texts are too
    short to tell two files apart, and where layers are to be judged by an engine that can't exchange weights.
    """
    threads = running.get("threads")
    if in_part is not None and (sealed := engine_facts(find_engine(running.get("engine"))).sealed):
        what = f"single layers can't be judged: {sealed}"
        raise EvaluationError(what, "leave --verify-layers out, or use another llama.cpp")
    applying = applying or (lambda: nullcontext(Silent()))
    scoring = scoring or (lambda: nullcontext(lambda _: lambda done, total: None))
    with work_folder(folder, "trial", remedy="write to another folder") as here:
        # First, since a text may be too short, and encoding takes long.
        reference, blocks = _held_out(plan, texts, here, registry, scoring, **running)

        def made(reuse: Path | None, **plans: Plan) -> list[Path]:
            with applying() as told:
                results = apply_plans(
                    [(it, here / f"{name}.gguf") for name, it in plans.items()],
                    registry=registry,
                    threads=threads,
                    nan=nan,
                    reuse=reuse,
                    store=store,
                    progress=told,
                )
            return [it.path for it in results]

        def scored(*files: Path) -> list[tuple[Evaluation, Drawn]]:
            with scoring() as task:
                all_ = [score(it, reference, progress=task(it.stem), **running) for it in files]
            return [(summarise(it), draw(it, blocks)) for it in all_]

        kinds: tuple[Kept, ...] = ("encoder", "plain")
        files = dict(zip(kinds, made(reuse, encoded=plan, plain=plain), strict=True))
        figures = dict(zip(kinds, scored(*files.values()), strict=True))
        plans: dict[Kept, Plan] = {"encoder": plan, "plain": plain}
        layers: Sequence[JudgedLayer] = ()
        if in_part is not None:
            with scoring() as task:
                layers = judge_layers(
                    *(plan, files["encoder"], files["plain"], reference, blocks),
                    registry=registry,
                    progress=task("layer by layer"),
                    **running,
                )
            if lost := [layer.number for layer in layers if layer.lost]:
                plans["encoder in part"] = in_part(lost)
                (files["encoder in part"],) = made(files["encoder"], mixed=plans["encoder in part"])
                (figures["encoder in part"],) = scored(files["encoder in part"])
        best = min((it for it in figures if it != "plain"), key=lambda it: figures[it][0].kld_mean)
        beside = compare_files(figures[best], figures["plain"], blocks, reference.noise)
        kept: Kept = best if surely_better(beside) else "plain"
        mixed = figures.get("encoder in part")
        yield Trial(
            text=", ".join(text.name for text in texts),
            positions=len(blocks.block),
            encoded=figures["encoder"][0].kld_mean,
            plain=figures["plain"][0].kld_mean,
            in_part=None if mixed is None else mixed[0].kld_mean,
            layers=layers,
            beside=beside,
            kept=kept,
            plan=plans[kept],
            file=files[kept],
        )


def _held_out(
    plan: Plan,
    texts: Sequence[Text],
    folder: Path,
    registry: Registry,
    scoring: Bar[Callable[[str], Progress]],
    **running: Unpack[RunOptions],
) -> tuple[Reference, Blocks]:
    """What the unquantized model says of the texts, and how these are drawn. EvaluationError if they are too short."""
    with unquantized(plan.model, registry, folder, threads=running.get("threads")) as path, scoring() as task:
        reference = make_reference(
            path,
            texts,
            folder / "reference",
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
    return reference, blocks
