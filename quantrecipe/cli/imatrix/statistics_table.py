"""The statistics of an importance matrix as a person reads them: one line for tensors of one role, or for each.

Of a role in many layers, the lowest and the highest number are shown. Roles that see the same inputs, as
attn_q, attn_k and attn_v do, have the same numbers, and share a line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from quantrecipe.cli.errors import printable
from quantrecipe.cli.tables import Cell, Kind, Paragraph, Table, numbers
from quantrecipe.importance.matrix import Importance
from quantrecipe.importance.provenance import Provenance
from quantrecipe.importance.statistics import LayerStatistics, TensorStatistics
from quantrecipe.layer_ranges import layer_ranges

__all__ = ["render_groups", "render_heading", "render_provenance", "render_tensors", "same_inputs"]

# Layers with the most energy that are named; they are usually the first or the last ones.
_LAYERS_NAMED = 3


def render_heading(matrix: Importance) -> RenderableType:
    """What the file says of itself."""
    facts = [f"{len(matrix.entries)} entries"]
    if matrix.chunks:
        facts.append(f"{matrix.chunks} chunks" + (f" of {matrix.chunk_size}" if matrix.chunk_size else ""))
    facts.append(", ".join(matrix.datasets) or "no calibration text named")
    if matrix.layout == "dat":
        facts.append("a .dat file: it doesn't say which experts were seen")
    title = Text(printable(matrix.label), "bold")
    return Paragraph(Text.assemble(title, (f"  {printable(' · '.join(facts))}", "dim")))


def render_provenance(provenance: Provenance) -> RenderableType:
    """Where the matrix comes from: a line for each fact that is known, and for each text."""
    experts = {True: "every token went through all", False: "as the model chooses", None: ""}
    facts = {
        "model": provenance.fingerprint,
        "model files": provenance.model,
        "engine": provenance.engine,
        "quantrecipe": provenance.version,
        "contexts": ", ".join(f"{length:,}" for length in provenance.contexts),
        "chunks at most": "" if provenance.chunks is None else f"{provenance.chunks:,}",
        "chunks skipped": "" if provenance.skip is None else f"{provenance.skip:,}",
        "seed": "" if provenance.seed is None else str(provenance.seed),
        "experts": experts[provenance.all_experts],
        "chat template": provenance.template,
    }
    known = [(name, fact) for name, fact in facts.items() if fact]
    parts: list[RenderableType] = [Table(("word", "text"), known)] if known else []
    if provenance.texts:
        rows = [
            (text.name, f"{text.tokens:,}" if text.tokens else "?", f"{text.weight:g}", text.digest or "?")
            for text in provenance.texts
        ]
        columns: dict[str, Kind] = {"text": "name", **numbers("tokens", "weight"), "XXH3-128": "text"}
        parts.append(Table(columns, rows))
    return Group(*parts)


def render_groups(
    tensors: Sequence[TensorStatistics], layers: Sequence[LayerStatistics], *, calls: bool
) -> RenderableType:
    """A table with a line for each group of roles with the same inputs, and a sentence on the layers."""
    rows: list[tuple[Cell, ...]] = [
        (
            ", ".join(roles),
            layer_ranges(item.layer for item in items if item.layer is not None),
            _range([number for item in items for number in (item.fewest, item.most)], "{:,}".format),
            *(_seen(items) for _ in _seen_heading(tensors)),
            _range([item.total for item in items], _short),
            _range([item.highest for item in items], _short),
            _range([item.active for item in items], _percent),
            _range([item.evenness for item in items], _percent),
            _range([item.outliers for item in items], _percent),
            _range([item.similarity for item in items], "{:.2f}".format),
        )
        for roles, items in same_inputs(tensors)
    ]
    columns: dict[str, Kind] = {"tensor": "list", "layers": "list"}
    columns |= numbers("calls" if calls else "tokens", *_seen_heading(tensors), "Σ(Act²)", "max")
    columns |= numbers("active %", "entropy %", "ZD %", "CosSim")
    return Group(Table(columns, rows), *_on_layers(layers))


def render_tensors(
    tensors: Sequence[TensorStatistics], layers: Sequence[LayerStatistics], *, calls: bool
) -> RenderableType:
    """Every tensor, and every layer, with the digits of llama-imatrix."""
    rows: list[tuple[Cell, ...]] = [
        (
            item.role,
            "–" if item.layer is None else str(item.layer),
            _range([item.fewest, item.most], "{:,}".format),
            *(_seen([item]) for _ in _seen_heading(tensors)),
            str(item.inputs),
            *_numbers((item.total, ".2f"), (item.lowest, ".4f"), (item.highest, ".4f"), (item.mean, ".2f")),
            *_numbers((item.deviation, ".2f"), (item.active, "%.2"), (item.entropy, ".4f")),
            *_numbers((item.evenness, "%.2"), (item.outliers, "%.2"), (item.similarity, ".4f")),
        )
        for item in tensors
    ]
    columns: dict[str, Kind] = {"tensor": "name"}
    columns |= numbers("layer", "calls" if calls else "tokens", *_seen_heading(tensors), "N", "Σ(Act²)")
    columns |= numbers("min", "max", "μ", "σ", "active %", "entropy", "norm %", "ZD %", "CosSim")
    table = Table(columns, rows)
    if not layers:
        return table
    means = [
        (
            str(layer.layer),
            *_numbers((layer.total, ".2f"), (layer.outliers, "%.4"), (layer.similarity, ".4f")),
        )
        for layer in layers
    ]
    return Group(table, Table(numbers("layer", "μΣ(Act²)", "μZD %", "μCosSim"), means))


def same_inputs(tensors: Iterable[TensorStatistics]) -> list[tuple[list[str], list[TensorStatistics]]]:
    """Roles that have the same numbers in the same layers, and the tensors of the first; those of no layer last."""
    by_role: dict[str, list[TensorStatistics]] = {}
    for item in tensors:
        by_role.setdefault(item.role, []).append(item)
    alike: dict[tuple[object, ...], tuple[list[str], list[TensorStatistics]]] = {}
    for role, items in by_role.items():
        key = tuple((i.layer, i.matrices, i.inputs, i.total, i.lowest, i.highest, i.entropy) for i in items)
        alike.setdefault(key, ([], items))[0].append(role)
    return sorted(alike.values(), key=lambda group: group[1][0].layer is None)


def _on_layers(layers: Sequence[LayerStatistics]) -> list[RenderableType]:
    if len(layers) < 2:
        return []
    ranked = sorted(layers, key=lambda layer: -layer.total)
    top = ", ".join(f"{layer.layer} ({_short(layer.total)})" for layer in ranked[:_LAYERS_NAMED])
    least = f"{ranked[-1].layer} ({_short(ranked[-1].total)})"
    return [
        Paragraph(f"layers with the most energy (mean Σ(Act²)): {top}; the least: {least}; --all shows each")
    ]


def _seen_heading(tensors: Iterable[TensorStatistics]) -> list[str]:
    """A column for the experts that were seen, where there are experts, or a tensor that nothing reached."""
    return ["seen"] if any(item.matrices > 1 or not item.seen for item in tensors) else []


def _seen(items: Sequence[TensorStatistics]) -> Text:
    seen, all_ = sum(item.seen for item in items), sum(item.matrices for item in items)
    if all_ == len(items):
        return Text("" if seen == all_ else "never", "yellow")
    return Text(f"{seen:,}/{all_:,}", "" if seen == all_ else "yellow")


def _range(numbers: Iterable[float | None], text: Callable[[float], str]) -> str:
    known = [number for number in numbers if number is not None]
    if not known:
        return "–"
    low, high = text(min(known)), text(max(known))
    return low if low == high else f"{low}–{high}"


def _numbers(*numbers: tuple[float | None, str]) -> Iterable[str]:
    """The numbers with the digits that each asks for; "%.2" is per cent, whose sign stands in the heading."""
    for number, digits in numbers:
        if number is None:
            yield "–"
        elif digits.startswith("%"):
            yield format(100 * number, f"{digits[1:]}f")
        else:
            yield format(number, digits)


def _percent(share: float) -> str:
    return f"{100 * share:.1f}".replace("100.0", "100")


def _short(number: float) -> str:
    """The number with three significant digits or more."""
    size = abs(number)
    if size and (size < 0.001 or size >= 1e7):
        return f"{number:.1e}"
    return f"{number:,.{0 if size >= 100 else 1 if size >= 10 else 2 if size >= 0.1 else 3}f}"
