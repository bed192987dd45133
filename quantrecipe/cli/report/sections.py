"""Sections of a report: bytes by role, size and loss, what changes, importance, provenance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from quantrecipe.allocate.front import Point
from quantrecipe.cli.diff.comparison import Comparison, headline, metadata_table
from quantrecipe.cli.diff.terminal import changes_table, totals_table
from quantrecipe.cli.pictures.inline import inline_svg
from quantrecipe.cli.pictures.treemap import Part, draw_treemap
from quantrecipe.cli.planned.coverage_table import render_coverage
from quantrecipe.cli.report.estimates import Estimate, Mix
from quantrecipe.cli.report.figures import draw_front
from quantrecipe.cli.report.frame import Section, facts_html, figure_html, folded, paragraphs, text
from quantrecipe.cli.report.maps import changes_map
from quantrecipe.cli.report.subject import Subject
from quantrecipe.cli.tables import Kind, Table, numbers
from quantrecipe.cli.tables.markup import html_of
from quantrecipe.cli.units import bytes_text, count_text, loss_text
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.pictures.layer_map import folded_role
from quantrecipe.plan.metadata import DATA_HASHES, ENCODERS, OURS, RECIPE
from quantrecipe.plan.review.diff import PlanDiff
from quantrecipe.plan.review.sides import Fate, Side

__all__ = [
    "Role",
    "bytes_section",
    "differences_section",
    "front_section",
    "importance_section",
    "provenance_section",
    "roles_of",
]

_MOST_HASHES = 2000
"""Tensors whose hashes are listed: more would fill the page with what nobody reads, and `inspect` has them."""
_LONGEST_VALUE = 400
_FACTS = (
    "general.name",
    "general.basename",
    "general.organization",
    "general.license",
    "general.base_model.0.repo_url",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Role:
    """What the tensors of one role take together."""

    name: str
    members: tuple[Fate, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of their data."""
        return sum(fate.nbytes for fate in self.members)

    @property
    def weights(self) -> int:
        """How many weights they have."""
        return sum(fate.tensor.size for fate in self.members)

    @property
    def bits(self) -> float:
        """Bits per weight as stored."""
        return 8 * self.nbytes / self.weights if self.weights else 0.0


def roles_of(fates: Iterable[Fate]) -> list[Role]:
    """The roles, the one with most bytes first; numbers within roles, such as those of experts, are folded."""
    groups: dict[str, list[Fate]] = {}
    for fate in fates:
        groups.setdefault(folded_role(fate.tensor), []).append(fate)
    found = [Role(name=name, members=tuple(members)) for name, members in groups.items()]
    return sorted(found, key=lambda role: (-role.nbytes, role.name))


def bytes_section(side: Side) -> Section:
    """A treemap of the roles, and the same as a table."""
    roles = roles_of(side.tensors.values())
    data = sum(role.nbytes for role in roles) or 1
    parts = [
        Part(
            lines=(role.name, bytes_text(role.nbytes), f"{role.bits:.2f} bits"),
            nbytes=role.nbytes,
            bits=role.bits,
        )
        for role in roles
    ]
    title = "Treemap: the bytes of each role. The table below has the same numbers."
    caption = "Bytes by role: the area is what the role takes, the colour its bits per weight."
    rows = [
        (
            role.name,
            str(len(role.members)),
            count_text(role.weights),
            f"{role.bits:.2f}",
            bytes_text(role.nbytes),
            f"{100 * role.nbytes / data:.1f}",
        )
        for role in roles
    ]
    columns: dict[str, Kind] = {"role": "name"}
    columns |= numbers("tensors", "weights", "bits/weight", "size", "share %")
    body = [
        figure_html(inline_svg(draw_treemap(parts), "treemap", title), caption),
        html_of(Table(columns, rows), caption="Bytes by role, the largest first", row_headings=True),
    ]
    return Section(ident="bytes", title="Bytes by role", body="\n".join(body))


def front_section(
    sides: Mapping[str, tuple[Side, Estimate]],
    stock: Sequence[Mix],
    best: Sequence[Point],
    measured: Mapping[str, tuple[int, float, float]],
) -> Section:
    """Size against loss. sides: what the report is about, and what it is compared with, by name."""
    marked = {name: (side.nbytes, estimate.total) for name, (side, estimate) in sides.items()}
    estimate = next(iter(sides.values()))[1]
    said = [
        "Each point is a whole file. The estimate adds up what each tensor loses; as a sum it holds within about ten "
        "per cent below some hundredths of a nat, and a model loses more than that at very low bits."
    ]
    if estimate.prior:
        said.append(
            "Nobody measured this model: the estimate is made of typical errors and typical weights of tensors. It "
            "orders mixes better than it tells how much they lose. `quantrecipe sensitivity` measures it."
        )
    figure = draw_front(stock, best, marked, measured)
    title = "Size of the file against KL divergence, for this file and others. The table below has the same numbers."
    rows = [
        (
            name,
            bytes_text(side.nbytes),
            f"{side.bits_per_weight:.2f}",
            loss_text(made.total),
            _measured(measured.get(name)),
        )
        for name, (side, made) in sides.items()
    ]
    rows += [
        (mix.name, bytes_text(mix.nbytes), f"{mix.bits_per_weight:.2f}", loss_text(mix.loss), "")
        for mix in stock
    ]
    weights = next(iter(sides.values()))[0].weights or 1
    rows += [
        (name, bytes_text(it[0]), f"{8 * it[0] / weights:.2f}", "", _measured(it))
        for name, it in measured.items()
        if name not in sides
    ]
    columns: dict[str, Kind] = {"mix": "name"}
    columns |= numbers("size", "bits/weight", "expected loss", "measured loss")
    if not measured:
        columns.pop("measured loss")
        rows = [row[:-1] for row in rows]  # type: ignore[misc]
    body = [
        paragraphs(said),
        figure_html(
            inline_svg(figure, "front", title),
            "Size and loss: towards the lower left is better. Only mixes that no smaller one beats have a name here.",
        ),
        folded(
            "The same as a table",
            html_of(Table(columns, rows), caption="Mixes of this model", row_headings=True),
        ),
    ]
    return Section(ident="front", title="Size and loss, beside other mixes", body="\n".join(body))


def _measured(it: tuple[int, float, float] | None) -> str:
    return "" if it is None else f"{it[1]:.3g} ± {it[2]:.1g}"


def differences_section(diff: PlanDiff) -> Section:
    """What changes from one side to the other, as a map and as tables."""
    comparison = Comparison(model=diff.model, diff=diff)
    old, new = diff.old.label, diff.new.label
    body = [
        f"<p>From {text(old)} to {text(new)}: {text(headline(comparison, old, new))}.</p>",
        html_of(totals_table(comparison), caption="Before, after, and the change", row_headings=True),
        changes_map(diff.old, diff.new),
    ]
    if diff.changes:
        body.append(html_of(changes_table(diff), caption="What changes, tensors that fare alike together"))
    if diff.metadata:
        table = html_of(metadata_table(diff), caption="Metadata whose values differ")
        body.append(folded(f"Metadata ({len(diff.metadata)} keys differ)", table))
    return Section(ident="differences", title="What changes", body="\n".join(body))


def importance_section(subject: Subject) -> Section | None:
    """How the importance matrix covers the tensors; None where there is none."""
    if subject.coverage is None:
        return None
    body = html_of(render_coverage(subject.coverage), caption="What isn't simply covered")
    return Section(ident="importance", title="Importance", body=body)


def provenance_section(subject: Subject, model: Path, version: str) -> Section:
    """Where it comes from: what the file records, or what the plan depends on; and the hashes of its tensors."""
    metadata = subject.plan.metadata if subject.plan is not None else subject.model.metadata
    # What another program copied along is of the file that it was copied from.
    ours = (OURS,) if subject.origin in ("given", "recorded") else ()
    facts = [("model", str(model)), ("report made by", f"quantrecipe {version}")]
    for key in _FACTS:
        facts.append((key, _value(metadata.get(key))))
    if subject.plan is not None:
        facts.append(("recipe", f"{subject.plan.recipe}, {subject.plan.recipe_file}"))
    for key, value in metadata.items():
        shown = value.type is not ValueType.ARRAY or key == ENCODERS
        if shown and key.startswith(("quantize.", *ours)) and key != RECIPE:
            facts.append((key, _value(value)))
    body = [facts_html(facts)]
    if subject.plan is None:
        body.append(_hashes(subject.side, metadata if ours else {}))
    else:
        body.append("<p>It is a plan: hashes of the data are recorded once the file is made.</p>")
    return Section(ident="provenance", title="Provenance", body="\n".join(filter(None, body)))


def _value(value: GGUFValue | None) -> str:
    if value is None:
        return ""
    decoded = value.decode()
    said = "; ".join(map(str, decoded)) if isinstance(decoded, list) else str(decoded)
    return said if len(said) <= _LONGEST_VALUE else f"{said[:_LONGEST_VALUE]}…"


def _hashes(side: Side, metadata: Mapping[str, GGUFValue]) -> str:
    value = metadata.get(DATA_HASHES)
    if value is None or value.item_type is not ValueType.STRING:
        return "<p>No hashes of its data are recorded in the file.</p>"
    if len(value) != len(side.tensors):
        return "<p>The recorded hashes aren't those of its tensors: some were added or removed since.</p>"
    if len(value) > _MOST_HASHES:
        return f"<p>{len(value):,} hashes of its data are recorded; <code>quantrecipe verify</code> compares them.</p>"
    rows = list(zip(side.tensors, map(str, value.decode()), strict=True))
    table = html_of(
        Table({"tensor": "name", "XXH3-128": "code"}, rows),
        caption="Hashes of the data, as recorded",
        row_headings=True,
    )
    said = "<p>They are what the file says; <code>quantrecipe verify</code> compares them with its data.</p>"
    return folded(f"Hashes of {len(rows)} tensors", said + table)
