"""The charts of a release: what a byte buys, and what each file spends its bytes on. PNGs, which the hub shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from quantrecipe.cli.pictures.figure import encode_figure, label, new_figure
from quantrecipe.cli.pictures.sizes import SizePoint, draw_sizes
from quantrecipe.cli.release.job import Item, Measured
from quantrecipe.units import binary_unit

__all__ = ["CHARTS", "draw_losses", "draw_spending"]

_COLOURS = ("#1f5fa8", "#c8553d", "#588157", "#8e6c8a", "#d9a441", "#5f7a8c", "#999999")
"""Distinct in grey and for the colour-blind; the last one is that of the rest."""
_MOST_ROLES = len(_COLOURS) - 1


def draw_losses(items: Sequence[Item], measured: Measured, *, model: str) -> bytes:
    """Size against KL divergence of the files that were measured, all texts and each; a PNG."""
    points = []
    for it in items:
        if it.name in measured.files:
            whole, by_text = measured.files[it.name]
            points.append(
                SizePoint(
                    label=it.label,
                    nbytes=it.plan.nbytes,
                    kld=whole.kld,
                    error=whole.kld_error,
                    texts={name: by_text[name].kld for name in measured.chunks},
                )
            )
    return draw_sizes(points, title=f"{model}: what a byte buys", kind="png", joined=True)


def draw_spending(items: Sequence[Item], *, model: str) -> bytes:
    """A bar for each file: its bytes by role, with the bits per weight of each; a PNG."""
    files = sorted(items, key=lambda it: -it.plan.nbytes)
    roles = _roles(files)
    figure = new_figure(7.5, 1.3 + 0.42 * len(files))
    axes = figure.add_subplot()
    unit_name, unit = binary_unit(files[0].plan.nbytes)
    left = [0.0] * len(files)
    for number, role in enumerate(roles):
        nbytes, bits = zip(*(_of_role(it, role, roles) for it in files), strict=True)
        widths = [it / unit for it in nbytes]
        bars = axes.barh(
            range(len(files)), widths, left=left, color=_COLOURS[number], label=label(role), height=0.7
        )
        texts = [
            f"{b:.1f}" if width > 0.05 * files[0].plan.nbytes / unit else ""
            for b, width in zip(bits, widths, strict=True)
        ]
        axes.bar_label(bars, texts, label_type="center", fontsize=7, color="white")
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.set_yticks(range(len(files)), [label(it.label) for it in files], fontsize=8)
    axes.set_xlabel(f"{unit_name}; in the bars: bits per weight", fontsize=9)
    axes.set_title(label(f"{model}: what the bytes are spent on"), fontsize=10, loc="left")
    axes.tick_params(labelsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.legend(fontsize=8, frameon=False, loc="outside lower center", ncols=4)
    return encode_figure(figure, "png")


def _roles(files: Sequence[Item]) -> list[str]:
    """The roles with the most bytes in the largest file; all others are one."""
    nbytes = Counter[str]()
    for a in files[0].plan.assignments:
        nbytes[a.tensor.role] += a.nbytes
    named = [role for role, _ in nbytes.most_common(_MOST_ROLES)]
    return [*named, "others"] if len(nbytes) > len(named) else named


def _of_role(item: Item, role: str, roles: Sequence[str]) -> tuple[int, float]:
    mine = [
        a
        for a in item.plan.assignments
        if a.tensor.role == role or (role == "others" and a.tensor.role not in roles)
    ]
    nbytes, weights = sum(a.nbytes for a in mine), sum(a.tensor.size for a in mine)
    return nbytes, 8 * nbytes / max(1, weights)


CHARTS: Mapping[str, str] = {"losses": "charts/losses.png", "spending": "charts/spending.png"}
"""Where each is in the folder."""
