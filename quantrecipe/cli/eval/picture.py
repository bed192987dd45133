"""The picture of what was evaluated: size against KL divergence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from quantrecipe.cli.eval.candidates import Candidate
from quantrecipe.cli.eval.figures import names_of
from quantrecipe.cli.pictures.figure import LONGEST_LABEL
from quantrecipe.cli.pictures.sizes import SizePoint, draw_sizes
from quantrecipe.cli.tables import shorten

if TYPE_CHECKING:
    from quantrecipe.evaluate import Reference

__all__ = ["draw"]


def draw(candidates: Sequence[Candidate], reference: Reference, *, kind: str) -> bytes:
    """A point for each file, as a file of this kind, "svg" or "png". No two names are shortened to the same."""
    names = [name.removesuffix(".gguf") for name in names_of(candidates)]
    points = [
        SizePoint(
            label=name,
            nbytes=it.nbytes,
            kld=it.all.kld_mean,
            error=it.all.kld_mean_error,
            texts={text: its.kld_mean for text, its in it.texts.items()},
        )
        for name, it in zip(shorten(names, LONGEST_LABEL) or names, candidates, strict=True)
    ]
    return draw_sizes(points, title=f"against {reference.model}", kind=kind)
