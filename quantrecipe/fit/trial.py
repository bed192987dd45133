"""A trial: what was fitted and the best preset, made and run over a text beside the unquantized model.

An estimate may be wrong, and what was chosen on a text has the luck of that text; a trial on another one says. It needs
the space of the model and of both files for as long as it runs.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from quantrecipe.engine import Engine
from quantrecipe.errors import EvaluationError
from quantrecipe.evaluate import Text, blocks_of, make_reference, score
from quantrecipe.evaluate.resampling import FEWEST_BLOCKS
from quantrecipe.fit.fit import Fitted, stock_text
from quantrecipe.fit.request import Request
from quantrecipe.measure.mixed import mixed, paired
from quantrecipe.model.model import Model
from quantrecipe.output.apply import apply_plans
from quantrecipe.output.unquantized import unquantized
from quantrecipe.output.work_folder import work_folder
from quantrecipe.registry import Registry

__all__ = ["Trial", "hold_trial", "settle"]

_CONTEXT = 512  # tokens of a chunk, as llama-perplexity has it by default
_WIDTH = 108
_SURE = 2.0  # standard errors of the difference


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """Mean KL divergence of both from the unquantized model, in nats.

    text:       what was read
    rival:      name of the preset
    difference: fitted minus stock, on the same chunks
    error:      standard error of that, whole chunks or documents being drawn
    """

    text: str
    positions: int
    rival: str
    fitted: float
    stock: float
    difference: float
    error: float

    @property
    def stock_wins(self) -> bool:
        """True where the preset loses less, and that is no accident of the text."""
        return self.difference > _SURE * self.error

    @property
    def fitted_wins(self) -> bool:
        """True where the fitted one loses less, and that is no accident of the text."""
        return self.difference < -_SURE * self.error

    def __str__(self) -> str:
        return (
            f"on {self.text} ({self.positions:,} positions) what was fitted loses {self.fitted:.4g}, "
            f"{self.rival} {self.stock:.4g} (difference {self.difference:+.2g} ± {self.error:.1g})"
        )


def hold_trial(
    fitted: Fitted,
    model: Model,
    registry: Registry,
    texts: Sequence[Text],
    *,
    folder: Path,
    tokens: int,
    threads: int | None = None,
    engine: Engine | None = None,
) -> Trial | None:
    """Make both files in a temporary folder within `folder`, and run them; None where there is no preset."""
    rival = fitted.best_rival
    if rival is None:
        return None
    with work_folder(folder, "trial") as here:
        files = [here / "fitted.gguf", here / "stock.gguf"]
        chunks = max(1, tokens // (_CONTEXT * len(texts)))
        with unquantized(model, registry, here, threads=threads) as path:
            reference = make_reference(
                path,
                texts,
                here / "reference",
                n_ctx=_CONTEXT,
                chunks=chunks,
                threads=threads,
                engine=engine,
            )
        if (count := blocks_of(reference).count) < FEWEST_BLOCKS:
            fewest = f"fewer than {FEWEST_BLOCKS} can't tell mixes apart"
            what = f"the held-out text has {count} chunks or documents, and {fewest}"
            raise EvaluationError(what, "give --verify more of it; a hundred chunks are better")
        plans = [fitted.fitted_plan, rival.plan]
        apply_plans(list(zip(plans, files, strict=True)), registry=registry, threads=threads)
        ours, theirs = (score(path, reference, threads=threads, engine=engine) for path in files)
    blocks = blocks_of(reference)
    by, sure_to = paired(*(mixed("", "", "", positions, blocks) for positions in (ours, theirs)))
    return Trial(
        text=", ".join(text.name for text in texts),
        positions=len(ours),
        rival=rival.name,
        fitted=float(ours.divergence.mean()),
        stock=float(theirs.divergence.mean()),
        difference=by,
        error=sure_to,
    )


def settle(fitted: Fitted, request: Request, trial: Trial) -> Fitted:
    """What the trial makes of it: whichever is surely better, else what the estimate said; and why, in the recipe."""
    rival = fitted.best_rival
    if trial.stock_wins and rival is not None:
        text = stock_text(request, rival, "tried beside what was fitted, the preset is better")
        fitted = replace(fitted, text=text, plan=rival.plan, winner=rival)
    elif trial.fitted_wins:
        fitted = replace(fitted, text=fitted.fitted_text, plan=fitted.fitted_plan, winner=None)
    said = textwrap.wrap(f"Tried {trial}.", _WIDTH, subsequent_indent="  ")
    return replace(fitted, text="".join(f"# {line}\n" for line in said) + fitted.text, trial=trial)
