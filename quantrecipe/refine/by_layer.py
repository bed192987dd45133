"""judge_layers: in which layers the encoder loses, each made plain by itself in the encoder's file.

    the encoder's file, open in the engine      → what it says of the text
    plain bytes written over those of a layer   → what it says now, beside that; then the layer's own bytes again

Both files have the same types, so that the bytes of one fit into the other, and nothing is encoded for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from quantrecipe.engine import RunOptions, Session
from quantrecipe.evaluate import Blocks, Pair, Reference, compare_files, draw, score, summarise
from quantrecipe.measure.open_resident import Exchange
from quantrecipe.model.open_model import open_model
from quantrecipe.plan.plan import Plan
from quantrecipe.registry import Registry

if TYPE_CHECKING:
    from quantrecipe.evaluate.requests import Progress

__all__ = ["JudgedLayer", "encoded_layers", "judge_layers", "surely_better"]


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgedLayer:
    """A layer, made plain by itself. beside: that file beside the one in which the encoder made all layers."""

    number: int
    beside: Pair

    @property
    def lost(self) -> bool:
        """True where plain encoding is surely better."""
        return surely_better(self.beside)

    def to_json(self) -> dict[str, Any]:
        """What is printed of it, in this order."""
        return {"layer": self.number, "lost": self.lost, "plain_beside_encoder": self.beside}


def surely_better(beside: Pair) -> bool:
    """True where the whole interval of the change says less, and the difference is more than the engine's noise."""
    known = beside.kld_mean.known
    return known is not None and known[1] < 0 and beside.verdict != "noise"


def encoded_layers(plan: Plan) -> dict[int, list[str]]:
    """By their numbers, the layers that an encoder has a part in, and the tensors there that it changes."""
    encoded = {a.tensor.name for a in plan.assignments if a.encoder is not None}
    found: dict[int, list[str]] = {}
    for a in plan.assignments:
        # Factors of a tensor lie in one of their own.
        if a.tensor.layer is not None and (a.tensor.name in encoded or a.owner in encoded):
            found.setdefault(a.tensor.layer, []).append(a.tensor.name)
    return found


def judge_layers(
    plan: Plan,
    encoded: Path,
    plain: Path,
    reference: Reference,
    blocks: Blocks,
    *,
    registry: Registry,
    progress: Progress,
    **running: Unpack[RunOptions],
) -> tuple[JudgedLayer, ...]:
    """Run the encoder's file once as it is, and once for each layer with that one made plain.

    plan:     of the encoder's file; plain: the file of the same types without encoders
    progress: told after each chunk, of all runs together
    EvaluationError where llama.cpp can't exchange weights.
    """
    layers = encoded_layers(plan)

    def said(run: int) -> Callable[[int, int], None]:
        return lambda done, total: progress(run * total + done, (len(layers) + 1) * total)

    with Session(encoded, writable=True, **running) as session:
        exchange = Exchange(session, open_model(encoded, registry=registry), registry)
        other = exchange.held_by(open_model(plain, registry=registry))
        base = score(session, reference, progress=said(0))
        figures, drawn = summarise(base), draw(base, blocks)
        judged = []
        for run, (number, names) in enumerate(sorted(layers.items()), 1):
            used = exchange.usable(names)
            exchange.put([other[name] for name in used])
            now = score(session, reference, progress=said(run))
            exchange.read_again(used)
            beside = compare_files(
                (summarise(now), draw(now, blocks)), (figures, drawn), blocks, reference.noise
            )
            judged.append(JudgedLayer(number=number, beside=beside))
    return tuple(judged)
