"""The figures of a report: size against loss, and what an evaluation says of texts, of places in them, and of tails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from quantrecipe.allocate.front import Point
from quantrecipe.cli.eval.candidates import Candidate
from quantrecipe.cli.pictures.figure import label
from quantrecipe.cli.pictures.inline import THEME, themed_axes
from quantrecipe.cli.report.estimates import Mix
from quantrecipe.units import binary_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Marked", "draw_by_context", "draw_by_text", "draw_front", "draw_tails"]

_WIDTH, _HEIGHT = 4.9, 3.4  # inches: on a telephone it has two thirds of that
_COLOURS = tuple(THEME[name] for name in ("first", "second", "third", "fourth"))
_MARKS = "osD^v<>P*X"
_LINES = ("-", "--", "-.", ":")
_TAILS = {"median": "kld_median", "90 %": "kld_90", "95 %": "kld_95", "99 %": "kld_99", "99.9 %": "kld_999"}
_MOST_SERIES = 12
_NAME_ROOM = 58.0, 14.0  # pixels of matplotlib's canvas, of which an inch has 100
_SHORT = 26
"""Characters of a name in a legend."""

Marked = Mapping[str, tuple[int, float]]
"""By name: the bytes of a file, and its loss."""


def draw_front(
    stock: Sequence[Mix],
    best: Sequence[Point],
    marked: Marked,
    measured: Mapping[str, tuple[int, float, float]],
) -> Figure:
    """Size against expected loss: mixes as points, the best that sizes allow as a line.

    marked: what the report is about, and what it is compared with; measured: bytes, mean KL divergence and its standard
    error of files that were evaluated
    """
    figure, axes = themed_axes(_WIDTH, _HEIGHT)
    every = [mix.nbytes for mix in stock] + [nbytes for nbytes, *_ in (*marked.values(), *measured.values())]
    unit, divisor = binary_unit(max(every))
    if best:
        axes.plot(
            [it.nbytes / divisor for it in best],
            [it.cost for it in best],
            color=THEME["muted"],
            linewidth=1.2,
            label="best mixes, by the estimate",
            zorder=1,
        )
    points = [mix for mix in stock if mix.loss > 0]
    axes.plot(
        [mix.nbytes / divisor for mix in points],
        [mix.loss for mix in points],
        "o",
        color=THEME["first"],
        markersize=4,
        label="llama-quantize's mixes, by the estimate",
        zorder=2,
    )
    for number, (name, (nbytes, loss)) in enumerate(marked.items()):
        if loss > 0:
            axes.plot(
                [nbytes / divisor],
                [loss],
                "*sD"[number % 3],
                color=THEME["second"],
                markersize=12 if number == 0 else 7,
                label=_short(name),
                zorder=4,
            )
    if measured:
        axes.errorbar(
            [nbytes / divisor for nbytes, *_ in measured.values()],
            [mean for _, mean, _ in measured.values()],
            yerr=[error for *_, error in measured.values()],
            fmt="d",
            markersize=5,
            capsize=2,
            color=THEME["third"],
            label="measured by eval",
            zorder=3,
        )
    axes.set_yscale("log")
    _limit(axes, points, best, marked, measured, divisor)
    _name(axes, {mix.name: (mix.nbytes / divisor, mix.loss) for mix in _unbeaten(points)})
    axes.set_xlabel(f"size of the file, {unit}", fontsize=9)
    axes.set_ylabel("KL divergence, nats", fontsize=9)
    _finish(axes)
    return figure


def _limit(
    axes: Axes,
    stock: Sequence[Mix],
    best: Sequence[Point],
    marked: Marked,
    measured: Mapping[str, tuple[int, float, float]],
    divisor: int,
) -> None:
    """Leave out what is larger than every mix: there the line goes on to 16 bits, which lose next to nothing."""
    sizes = [mix.nbytes for mix in stock] + [nbytes for nbytes, *_ in (*marked.values(), *measured.values())]
    low, high = min(sizes), max(sizes)
    room = 0.06 * (high - low) or 0.1 * high
    axes.set_xlim((low - room) / divisor, (high + 2 * room) / divisor)
    losses = [mix.loss for mix in stock] + [loss for _, loss in marked.values() if loss > 0]
    losses += [mean for _, mean, _ in measured.values() if mean > 0]
    losses += [it.cost for it in best if low <= it.nbytes <= high]
    if losses:
        axes.set_ylim(min(losses) / 1.6, max(losses) * 1.8)


def draw_tails(candidates: Sequence[Candidate], names: Sequence[str]) -> Figure:
    """Quantiles of the divergence of each file: how bad its worst positions are."""
    figure, axes = themed_axes(_WIDTH, _HEIGHT)
    places = range(len(_TAILS))
    for number, (name, it) in enumerate(zip(names, candidates, strict=True)):
        if number < _MOST_SERIES:
            values = [getattr(it.all, key) for key in _TAILS.values()]
            axes.plot(places, values, label=_short(name), **_series(number))
    axes.set_yscale("log")
    axes.set_xticks(places, list(_TAILS))
    axes.set_xlabel("share of positions that are below", fontsize=9)
    axes.set_ylabel("KL divergence, nats", fontsize=9)
    _finish(axes)
    return figure


def draw_by_text(candidates: Sequence[Candidate], names: Sequence[str]) -> Figure:
    """The mean divergence of each file on each text, with its interval, where one is known."""
    texts = list(candidates[0].texts)
    figure, axes = themed_axes(
        _WIDTH, max(1.6, 0.9 + 0.34 * len(texts) * max(1, min(3, len(candidates)) * 0.6))
    )
    for number, (name, it) in enumerate(zip(names, candidates, strict=True)):
        if number >= _MOST_SERIES:
            break
        shift = 0.7 * ((number + 0.5) / min(len(candidates), _MOST_SERIES) - 0.5)
        means, ends = [], []
        for text in texts:
            interval = it.intervals.by_text.get(text)
            mean = it.texts[text].kld_mean
            low, high = (interval.known if interval is not None else None) or (mean, mean)
            means.append(mean)
            ends.append((max(0.0, mean - low), max(0.0, high - mean)))
        axes.errorbar(
            means,
            [place + shift for place in range(len(texts))],
            xerr=list(zip(*ends, strict=True)),
            fmt=_MARKS[number % len(_MARKS)],
            color=_COLOURS[number % len(_COLOURS)],
            markersize=4,
            capsize=2,
            label=_short(name),
        )
    axes.set_yticks(range(len(texts)), [_short(text) for text in texts])
    axes.set_ylim(len(texts) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.set_xlabel("mean KL divergence, nats, with its interval of 95 %", fontsize=9)
    _finish(axes)
    return figure


def draw_by_context(candidates: Sequence[Candidate], names: Sequence[str]) -> Figure:
    """The mean divergence of each file by the tokens of context that stand before a position."""
    figure, axes = themed_axes(_WIDTH, _HEIGHT)
    for number, (name, it) in enumerate(zip(names, candidates, strict=True)):
        buckets = it.intervals.by_context
        if number >= _MOST_SERIES or not buckets:
            continue
        places = [(bucket.first + bucket.last) / 2 for bucket in buckets]
        axes.plot(
            places, [bucket.kld_mean.value for bucket in buckets], label=_short(name), **_series(number)
        )
        known = [bucket.kld_mean.known or (bucket.kld_mean.value,) * 2 for bucket in buckets]
        axes.fill_between(
            places,
            [low for low, _ in known],
            [high for _, high in known],
            color=_COLOURS[number % len(_COLOURS)],
            alpha=0.15,
            linewidth=0,
        )
    axes.set_ylim(bottom=0)
    axes.set_xlabel("tokens of context", fontsize=9)
    axes.set_ylabel("mean KL divergence, nats", fontsize=9)
    _finish(axes)
    return figure


def _series(number: int) -> dict[str, Any]:
    """How the line of a file looks: colour, mark and dashes differ, so that it needn't be told by its colour."""
    return {
        "color": _COLOURS[number % len(_COLOURS)],
        "marker": _MARKS[number % len(_MARKS)],
        "linestyle": _LINES[number // len(_COLOURS) % len(_LINES)],
        "markersize": 4,
        "linewidth": 1.2,
    }


def _name(axes: Axes, points: Mapping[str, tuple[float, float]]) -> None:
    """Write names beside points, but for those that would stand on another name."""
    taken: list[tuple[float, float]] = []
    for name, point in points.items():
        x, y = (float(it) for it in axes.transData.transform(point))
        if all(abs(x - a) > _NAME_ROOM[0] or abs(y - b) > _NAME_ROOM[1] for a, b in taken):
            taken.append((x, y))
            axes.annotate(
                label(name),
                point,
                textcoords="offset points",
                xytext=(5, 3),
                fontsize=7,
                color=THEME["ink"],
            )


def _unbeaten(mixes: Sequence[Mix]) -> list[Mix]:
    """The mixes that no smaller one beats, the smallest first."""
    best: list[Mix] = []
    for mix in sorted(mixes, key=lambda it: (it.nbytes, it.loss)):
        if not best or mix.loss < best[-1].loss:
            best.append(mix)
    return best


def _short(name: str) -> str:
    shown = name if len(name) <= _SHORT else f"{name[: _SHORT // 2]}…{name[1 - _SHORT // 2 :]}"
    return label(shown)


def _finish(axes: Axes) -> None:
    axes.grid(visible=True, which="major", linewidth=0.5, color=THEME["line"])
    axes.set_axisbelow(True)
    axes.tick_params(which="minor", labelsize=0, length=0)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=7.5, frameon=False, labelcolor=THEME["ink"])
