"""The maps of a report: what type each field has, what it loses, and what differs between two sides."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from quantrecipe.cli.pictures.map_table import Shown, map_html
from quantrecipe.cli.report.frame import Section, text
from quantrecipe.cli.tables import Kind, Table, numbers
from quantrecipe.cli.tables.markup import html_of
from quantrecipe.cli.units import bytes_text, count_text, loss_text, shape_text
from quantrecipe.pictures.layer_map import Field, LayerMap, layer_map
from quantrecipe.pictures.shades import SCALES, change_shade, loss_shade, shade_class, type_shade
from quantrecipe.plan.review.sides import Fate, Side

__all__ = [
    "changes_map",
    "losses_section",
    "show_change",
    "show_loss",
    "show_type",
    "types_section",
    "types_table",
]

_MOST_NAMED = 2
"""Types of one field that are named; of more it says how many there are."""

_UNITS = (("thousandths of a nat", 1e-3), ("millionths of a nat", 1e-6), ("billionths of a nat", 1e-9))
_AMOUNT = "losses are mean KL divergence from the unquantized model, in nats"


def types_section(side: Side) -> Section:
    """What each tensor becomes, with the types as a legend."""
    found = layer_map(side.tensors.values())
    body = [
        html_of(
            types_table(side.tensors.values()),
            caption="The types, the one with most bytes first",
            row_headings=True,
        ),
        _legend(side),
        maps_html(
            found,
            lambda field: show_type(field, side.tensors),
            what="Type of each tensor, coloured by bits per weight",
            ident="types",
        ),
        _outside(found, side),
    ]
    return Section(ident="types", title="Types by layer and role", body="\n".join(filter(None, body)))


def losses_section(side: Side, losses: Mapping[str, float], source: str, *, prior: bool) -> Section:
    """What each tensor is expected to lose. source: where the losses are from; prior: nobody measured them."""
    found = layer_map(side.tensors.values())
    fields = [names for stack in found.stacks for names in stack.fields.values()]
    totals = [total for field in fields if (total := _total(field, losses)) > 0]
    least, most = min(totals, default=0.0), max(totals, default=0.0)
    said = (
        f"Estimated from typical errors of the types and typical weights of tensors ({source}): nobody measured this "
        f"model. {_AMOUNT[0].upper()}{_AMOUNT[1:]}."
        if prior
        else f"Estimated from a sensitivity file ({source}); {_AMOUNT}."
    )
    unit, divisor = next((it for it in _UNITS if most >= it[1]), _UNITS[-1])
    body = [
        f"<p>{text(said)} The darkest field loses {text(loss_text(most))}.</p>",
        maps_html(
            found,
            lambda field: show_loss(field, losses, (least, most), divisor),
            what=f"Expected loss of each tensor, in {unit}",
            ident="losses",
        ),
    ]
    if found.outside:
        rows = sorted(
            (
                (role, loss_text(_total(names, losses)))
                for role, names in found.outside.items()
                if _total(names, losses) > 0
            )
        )
        table = Table({"tensor": "name", "expected loss": "number"}, rows)
        body.append(html_of(table, caption="Expected loss outside the layers", row_headings=True))
    return Section(ident="losses", title="Expected loss by layer and role", body="\n".join(body))


def changes_map(old: Side, new: Side) -> str:
    """HTML: which fields of two sides differ, and how."""
    found = layer_map([*new.tensors.values(), *old.tensors.values()])
    return maps_html(
        found,
        lambda field: show_change(field, old.tensors, new.tensors),
        what="What changes: violet has more bits per weight than before, brown has fewer",
        ident="changes",
    )


def maps_html(found: LayerMap, show: Callable[[Field], Shown], *, what: str, ident: str) -> str:
    """A table for each stack of layers."""
    parts = []
    for number, stack in enumerate(found.stacks):
        caption = f"{what}: {stack.name}" if stack.name else what
        parts.append(map_html(stack, show, caption=caption, ident=f"{ident}-map-{number}"))
    return "\n".join(parts)


def show_type(field: Field, fates: Mapping[str, Fate]) -> Shown:
    """A field by its type, coloured by bits per weight."""
    members = [fates[name] for name in field if name in fates]
    bits = _bits(members)
    wanted = {fate.wanted for fate in members if fate.wanted is not None}
    instead = f", instead of {', '.join(sorted(wanted))}" if wanted else ""
    first = members[0]
    what = shape_text(first.tensor.shape) if len(members) == 1 else f"{len(members)} tensors"
    nbytes = sum(fate.nbytes for fate in members)
    return Shown(
        text=_types_text(members) + ("*" if wanted else ""),
        shade=shade_class("bits", type_shade(bits)),
        more=f"{what}: {bits:.2f} bits per weight, {bytes_text(nbytes)}{instead}",
    )


def show_loss(field: Field, losses: Mapping[str, float], limits: tuple[float, float], unit: float) -> Shown:
    """A field by what its tensors are expected to lose together.

    limits: the least and the most that any field loses; unit: of the number that is shown
    """
    loss = _total(field, losses)
    if not loss:
        return Shown(text="0", shade="same")
    digits = f"{loss / unit:.0f}" if loss >= 9.95 * unit else f"{loss / unit:.2g}"
    return Shown(text=digits, shade=shade_class("loss", loss_shade(loss, *limits)))


def show_change(field: Field, old: Mapping[str, Fate], new: Mapping[str, Fate]) -> Shown:
    """A field by its types before and after."""
    before = [old[name] for name in field if name in old]
    after = [new[name] for name in field if name in new]
    if not before or not after:
        members, what = (after, "new") if after else (before, "gone")
        strongest = len(SCALES["change"]) - 1 if after else 0
        return Shown(text=f"{_types_text(members)} ({what})", shade=shade_class("change", strongest))
    differs = len(before) != len(after) or any(
        old[fate.tensor.name].differs(fate) for fate in after if fate.tensor.name in old
    )
    if not differs:
        return Shown(text=_types_text(after), shade="same")
    types = _types_text(before), _types_text(after)
    text_ = " → ".join(types) if types[0] != types[1] else f"{types[1]} (otherwise)"
    return Shown(text=text_, shade=shade_class("change", change_shade(_bits(before), _bits(after))))


def types_table(fates: Iterable[Fate]) -> Table:
    """What each type takes, the largest first."""
    by_type: dict[str, list[Fate]] = {}
    for fate in fates:
        by_type.setdefault(fate.type, []).append(fate)
    data = sum(fate.nbytes for members in by_type.values() for fate in members) or 1
    rows = []
    for name, members in sorted(by_type.items(), key=lambda it: (-sum(f.nbytes for f in it[1]), it[0])):
        nbytes = sum(fate.nbytes for fate in members)
        rows.append(
            (
                name,
                str(len(members)),
                count_text(sum(fate.tensor.size for fate in members)),
                f"{_bits(members):.2f}",
                bytes_text(nbytes),
                f"{100 * nbytes / data:.1f}",
            )
        )
    columns: dict[str, Kind] = {"type": "word"}
    return Table(columns | numbers("tensors", "weights", "bits/weight", "size", "share %"), rows)


def _legend(side: Side) -> str:
    """Each type in its colour."""
    types: dict[str, list[Fate]] = {}
    for fate in side.tensors.values():
        types.setdefault(fate.type, []).append(fate)
    items = []
    for name, members in sorted(types.items(), key=lambda it: (_bits(it[1]), it[0])):
        bits = _bits(members)
        shade = shade_class("bits", type_shade(bits))
        items.append(f'<li><span class="swatch {shade}">{text(name)}</span> {bits:.2f} bits</li>')
    starred = any(fate.wanted is not None for fate in side.tensors.values())
    more = (
        "<p>* another type than the recipe asked for, since that one doesn't take the tensor.</p>"
        if starred
        else ""
    )
    return f'<ul class="legend">{"".join(items)}</ul>{more}'


def _outside(found: LayerMap, side: Side) -> str:
    if not found.outside:
        return ""
    rows = []
    for role, names in found.outside.items():
        members = [side.tensors[name] for name in names]
        shapes = dict.fromkeys(shape_text(fate.tensor.shape) for fate in members)
        shape = next(iter(shapes)) if len(shapes) == 1 else f"{len(members)} tensors"
        nbytes = sum(fate.nbytes for fate in members)
        rows.append((role, shape, _types_text(members), f"{_bits(members):.2f}", bytes_text(nbytes)))
    columns: dict[str, Kind] = {"tensor": "name", "shape": "word", "type": "list"}
    table = Table(columns | numbers("bits/weight", "size"), rows)
    return html_of(table, caption="Tensors outside the layers", row_headings=True)


def _types_text(members: Sequence[Fate]) -> str:
    weights: dict[str, int] = {}
    for fate in members:
        weights[fate.label] = weights.get(fate.label, 0) + fate.tensor.size
    names = sorted(weights, key=lambda name: (-weights[name], name))
    return ", ".join(names) if len(names) <= _MOST_NAMED else f"{len(names)} types"


def _bits(members: Sequence[Fate]) -> float:
    weights = sum(fate.tensor.size for fate in members)
    return 8 * sum(fate.nbytes for fate in members) / weights if weights else 0.0


def _total(field: Field, losses: Mapping[str, float]) -> float:
    return sum(losses.get(name, 0.0) for name in field)
