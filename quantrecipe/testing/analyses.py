"""What analyses promise: losses of each row by itself, none where nothing is lost, less of it in finer formats; and
of those that ask the model: a number for each tensor, within the probes that they were given."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from quantrecipe.api import Change, Effect, Encoder, ModelAnalysis, QuantFormat, Reduce, Study, TensorAnalysis
from quantrecipe.errors import NonFiniteError, QuantrecipeError
from quantrecipe.registry import load_registry
from quantrecipe.tensor import TensorInfo
from quantrecipe.testing.failure import require

if TYPE_CHECKING:
    from quantrecipe.api import DoubleArray, FloatArray

__all__ = [
    "check_finer_is_better",
    "check_input_kept",
    "check_losses",
    "check_lossless",
    "check_not_finite",
    "check_rows_apart",
    "check_weights",
    "check_words",
]

_LADDER = ("Q8_0", "Q4_0", "Q2_0")
"""Formats, each with about a sixteenth of the error of the next: any sensible loss keeps their order."""
_COLUMNS = 256
_PROBES = 12


def check_words(analysis: TensorAnalysis | ModelAnalysis | Encoder, seed: int = 0) -> None:
    """It has a summary of one line, and a version that counts from 1."""
    require(analysis.summary.strip() and "\n" not in analysis.summary, "summary isn't one line")
    require(analysis.version >= 1, "version counts from 1")


def check_losses(analysis: TensorAnalysis, seed: int = 0) -> None:
    """row_losses: two float64 arrays with a number for each row, finite and not negative; of no rows, none."""
    for n in (0, 1, 9):
        rows, importance = _rows(n, seed)
        for given in (None, importance):
            for fmt in _formats(*_LADDER):
                for name, sums in zip(("lost", "whole"), analysis.row_losses(rows, fmt, given), strict=True):
                    what = f"{name} of {n} rows in {fmt.spec.name}"
                    require(
                        isinstance(sums, np.ndarray) and sums.dtype == np.float64, f"{what}: no float64 array"
                    )
                    require(sums.shape == (n,), f"{what}: has shape {sums.shape} instead of {(n,)}")
                    require(np.isfinite(sums).all(), f"{what}: isn't finite")
                    require((sums >= 0).all(), f"{what}: is negative")
    zeros = np.zeros((3, _COLUMNS), np.float32)
    score = analysis.score(zeros, _formats("Q8_0")[0])
    require(score == 0, f"zeros that stay zeros score {score} instead of 0")


def check_lossless(analysis: TensorAnalysis, seed: int = 0) -> None:
    """A format that loses nothing scores 0."""
    rows, importance = _rows(8, seed)
    for given in (None, importance):
        score = analysis.score(rows, _formats("F32")[0], given)
        require(score == 0, f"F32 scores {score} instead of 0")


def check_finer_is_better(analysis: TensorAnalysis, seed: int = 0) -> None:
    """The loss grows from Q8_0 to Q4_0 to Q2_0."""
    rows, importance = _rows(32, seed)
    for given in (None, importance):
        scores = {fmt.spec.name: analysis.score(rows, fmt, given) for fmt in _formats(*_LADDER)}
        said = ", ".join(f"{name} {score:.3g}" for name, score in scores.items())
        require(
            all(a < b for a, b in zip(scores.values(), list(scores.values())[1:], strict=False)),
            f"{said}: not in order",
        )


def check_rows_apart(analysis: TensorAnalysis, seed: int = 0) -> None:
    """A row's losses don't depend on the other rows, on the order, or on what other threads do."""
    rows, importance = _rows(23, seed)
    (fmt,) = _formats("Q4_0")
    whole = analysis.row_losses(rows, fmt, importance)
    for step in (1, 5):
        parts = [analysis.row_losses(rows[i : i + step], fmt, importance) for i in range(0, len(rows), step)]
        _same(
            whole,
            tuple(np.concatenate(column) for column in zip(*parts, strict=True)),
            f"{step} rows at a time",
        )
    backwards = analysis.row_losses(rows[::-1], fmt, importance)
    _same(whole, tuple(sums[::-1] for sums in backwards), "in another order")
    with ThreadPoolExecutor(4) as pool:
        for answer in pool.map(lambda _: analysis.row_losses(rows, fmt, importance), range(16)):
            _same(whole, answer, "in one of 4 threads")


def check_input_kept(analysis: TensorAnalysis, seed: int = 0) -> None:
    """Neither weights nor importance are changed, and they may be read-only."""
    rows, importance = _rows(8, seed)
    (fmt,) = _formats("Q4_0")
    kept_rows, kept_importance = rows.copy(), importance.copy()
    analysis.row_losses(rows, fmt, importance)
    require(np.array_equal(rows, kept_rows), "the weights are changed")
    require(np.array_equal(importance, kept_importance), "the importance is changed")
    rows.flags.writeable = importance.flags.writeable = False
    analysis.row_losses(rows, fmt, importance)


def check_not_finite(analysis: TensorAnalysis, seed: int = 0) -> None:
    """NaN and Inf among the weights are a NonFiniteError."""
    for value in (np.nan, np.inf):
        rows, importance = _rows(4, seed)
        rows[2, 7] = value
        try:
            with np.errstate(all="ignore"):
                analysis.row_losses(rows, _formats("Q4_0")[0], importance)
        except NonFiniteError:
            continue
        require(False, f"{value} among the weights is taken; it should be a NonFiniteError")


def check_weights(analysis: ModelAnalysis, seed: int = 0) -> None:
    """weigh: finite, not negative, of tensors that it was asked about; at most as many probes as it was given.

    Where it lacks what it needs, a QuantrecipeError says so. What it gives `look` can be sent to another process, and
    what it gives `swap` makes the same weights of rows in whichever pieces they come.
    """
    for probes in (0, 1, _PROBES):
        study, spent = _study(seed, probes)
        try:
            weights = analysis.weigh(study)
        except QuantrecipeError:
            continue  # it needs a file, or more probes
        names = {tensor.name for tensor in study.tensors}
        require(isinstance(weights, Mapping), f"weigh returns {type(weights).__name__}, no mapping")
        require(
            not weights.keys() - names,
            f"it weighs {sorted(weights.keys() - names)[:1]}, which wasn't asked for",
        )
        for name, weight in weights.items():
            require(math.isfinite(weight) and weight >= 0, f"the weight of {name} is {weight}")
        require(len(spent) <= probes, f"{len(spent)} probes were made, and {probes} were given")
        again, _ = _study(seed, probes)
        require(dict(analysis.weigh(again)) == dict(weights), "the same study gives other weights")


def _study(seed: int, probes: int) -> tuple[Study, list[Sequence[str]]]:
    """A model of eight layers whose output moves in a known way, and the list that its probes are noted in."""
    roles = {"attn_q": 64, "attn_k": 16, "attn_v": 16, "attn_output": 64, "ffn_up": 192, "ffn_down": 64}
    tensors = [TensorInfo.from_name("token_embd.weight", (512, 64), "F32")]
    tensors += [
        TensorInfo.from_name(f"blk.{layer}.{role}.weight", (rows, 64), "F32")
        for layer in range(8)
        for role, rows in sorted(roles.items())
    ]
    rng = np.random.default_rng(seed)
    alphas = {tensor.name: float(rng.lognormal(-3)) for tensor in tensors}
    losses = {tensor.name: {"Q8_0": 4e-5, "Q4_K": 6e-3, "Q3_K": 2.5e-2, "Q2_K": 0.11} for tensor in tensors}
    spent: list[Sequence[str]] = []
    shapes = {tensor.name: (tensor.experts * tensor.rows, tensor.cols) for tensor in tensors}

    def evaluate(types: Mapping[str, str]) -> Effect:
        spent.append(list(types))
        moved = sum(alphas[name] * losses[name].get(type_, 1e-2) for name, type_ in types.items())
        return Effect(kld=moved, standard_error=0.02 * moved)

    def swap(changes: Mapping[str, Change]) -> Effect:
        spent.append(list(changes))
        moved = sum(alphas[name] * _relative(name, change, shapes[name]) for name, change in changes.items())
        return Effect(kld=moved, standard_error=0.02 * moved)

    def look(function: Reduce, names: Sequence[str]) -> Mapping[str, DoubleArray]:
        return {name: _reduced(name, function, shapes[name][1]) for name in names}

    study = Study(
        tensors=tuple(tensors),
        n_layers=8,
        losses=losses,
        prior={tensor.name: 0.05 for tensor in tensors},
        doubt={tensor.name: 1.0 for tensor in tensors},
        probes=probes,
        evaluate=evaluate if probes else None,
        evaluate_part=(lambda types, number: evaluate(types)) if probes else None,
        swap=swap if probes else None,
        look=look if probes else None,
    )
    return study, spent


def _relative(name: str, change: Change, shape: tuple[int, int]) -> float:
    """The relative squared error of other weights, held against what a Change promises."""
    own = np.random.default_rng([*name.encode()]).standard_normal(shape, np.float32)
    own.flags.writeable = False
    made = change(own, 0)
    require(
        isinstance(made, np.ndarray) and made.dtype == np.float32 and made.shape == shape,
        f"other weights of {name}: no float32 array of shape {shape}",
    )
    require(np.isfinite(made).all(), f"other weights of {name}: not finite")
    middle = shape[0] // 3
    for start, stop in ((middle, shape[0]), (0, middle)):
        require(
            np.array_equal(change(own[start:stop], start), made[start:stop]),
            f"other weights of {name}: rows from {start} differ when they come by themselves",
        )
    off = made.astype(np.float64) - own
    return float(np.square(off).sum() / np.square(own.astype(np.float64)).sum())


def _reduced(name: str, function: Reduce, columns: int) -> DoubleArray:
    """What a Reduce makes of some inputs, held against what it promises."""
    try:
        there = pickle.loads(pickle.dumps(function))  # our own function, as it arrives in another process
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        require(False, f"what look gets isn't at the top level of a module: {error}")
    found: list[DoubleArray] = []
    for tokens in (3, 5):
        inputs = np.random.default_rng([tokens, *name.encode()]).standard_normal(
            (tokens, columns), np.float32
        )
        inputs.flags.writeable = False
        found.append(np.asarray(there(inputs), np.float64))
    shapes = [made.shape for made in found]
    require(shapes[0] == shapes[1], f"what look gets returns {shapes[0]} for 3 tokens and {shapes[1]} for 5")
    require(all(np.isfinite(made).all() for made in found), "what look gets returns NaN or Inf")
    total: DoubleArray = found[0] + found[1]
    return total


def _rows(n: int, seed: int) -> tuple[FloatArray, FloatArray]:
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n, _COLUMNS), np.float32) * np.float32(0.02)
    return rows, rng.exponential(1.0, (_COLUMNS,)).astype(np.float32)


def _formats(*names: str) -> list[QuantFormat]:
    formats = load_registry(plugins=False).formats
    return [formats[name] for name in names]


def _same(whole: tuple[object, ...], parts: tuple[object, ...], how: str) -> None:
    for name, one, other in zip(("lost", "whole"), whole, parts, strict=True):
        wrong = np.flatnonzero(np.asarray(one) != np.asarray(other))
        require(not len(wrong), f"{name} of row {wrong[0] if len(wrong) else 0} differs when rows come {how}")


TENSOR_CHECKS: tuple[Callable[[TensorAnalysis, int], None], ...] = (
    check_words,
    check_losses,
    check_lossless,
    check_finer_is_better,
    check_rows_apart,
    check_input_kept,
    check_not_finite,
)
"""What every TensorAnalysis is held to."""

MODEL_CHECKS: tuple[Callable[[ModelAnalysis, int], None], ...] = (check_words, check_weights)
"""What every ModelAnalysis is held to."""
