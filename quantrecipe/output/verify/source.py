"""The file held against the model that it was made from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from quantrecipe.errors import PlanError
from quantrecipe.gguf.values import GGUFValue
from quantrecipe.importance.matrix import Importance
from quantrecipe.model.model import Model
from quantrecipe.output.verify.expected import type_findings
from quantrecipe.output.verify.produced import Produced
from quantrecipe.output.verify.verification import Check, Finding
from quantrecipe.plan.assign import Choice
from quantrecipe.plan.companions import companion_name
from quantrecipe.plan.digests import encoding_digest, plan_digest
from quantrecipe.plan.metadata import IMPORTANCE_DIGEST, OURS, PLAN_DIGEST, STATISTICS_DIGEST, build_metadata
from quantrecipe.plan.plan import Assignment
from quantrecipe.plan.resolution import Resolution, resolve
from quantrecipe.plan.review.recorded import AS_WRITTEN, choices_of
from quantrecipe.plan.statistics import NO_STATISTICS, Made, Statistics, made_by
from quantrecipe.plan.trace import covers_none
from quantrecipe.recipe.recipe import Recipe
from quantrecipe.registry import Registry
from quantrecipe.wording import shortened

__all__ = ["Origin", "find_origin"]

_SPLIT = "split."
_IMATRIX = "quantize.imatrix."


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """What each tensor of the file comes from.

    resolution:  the recipe held against the source: its model has no pruned layers, and the names that the file uses
    assignments: what can be quantized again, at the offsets of the file
    companions:  by the name of the tensor that they belong to
    unknown:     tensors that need an importance matrix, or statistics, that weren't given
    checks:      of types and plan
    """

    resolution: Resolution
    assignments: tuple[Assignment, ...]
    companions: Mapping[str, Assignment]
    unknown: tuple[str, ...]
    checks: tuple[Check, ...]


def find_origin(
    produced: Produced,
    source: Model,
    recipe: Recipe,
    importance: Importance | None,
    registry: Registry,
    statistics: Statistics | None = None,
) -> Origin:
    """What the recipe makes of the source, and how the file differs from it."""
    stored = {tensor.name: tensor for tensor in produced.model.tensors}
    resolution = resolve(
        recipe,
        source,
        registry,
        importance,
        AS_WRITTEN,
        covered=covers_none if IMPORTANCE_DIGEST in produced.metadata else None,
        order=list(stored),
        statistics=statistics,
    )
    choices = choices_of(resolution, stored)
    found = _Found(produced, resolution, choices)
    types = Check.of("types", f"{len(choices)} tensors", found.type_findings())
    plan = Check.of(
        "plan",
        "names, shapes, metadata and how each tensor was encoded" if produced.has_provenance else "shapes",
        [
            *(_metadata(produced, resolution, found.all) if len(found.all) == len(choices) else ()),
            *found.encoding_findings(),
            *_digests(produced, resolution, found),
        ],
    )
    return Origin(
        resolution=resolution,
        assignments=tuple(found.known),
        companions=found.companions,
        unknown=tuple(found.unknown),
        checks=(types, plan),
    )


class _Found:
    """Each tensor of the file, with the format that made it."""

    def __init__(self, produced: Produced, resolution: Resolution, choices: Mapping[str, Choice]) -> None:
        self._produced = produced
        self._choices = choices
        self._stored = {tensor.name: tensor for tensor in produced.model.tensors}
        self._float32 = resolution.registry.format("F32")
        self.all: list[Assignment] = []
        self.known: list[Assignment] = []
        self.unknown: list[str] = []
        self.strange: list[str] = []
        self.companions: dict[str, Assignment] = {}
        self._misshapen: list[Finding] = []
        decisions = {it.tensor.name: it for it in resolution.trace.decisions}
        for tensor in resolution.model.tensors:
            stored, choice = self._stored.get(tensor.name), choices.get(tensor.name)
            if stored is None or choice is None or stored.dtype != choice.format.spec.name:
                continue
            if stored.shape != tensor.shape:
                what = f"has the shape {stored.shape}, and {tensor.shape} in the source"
                self._misshapen.append(Finding(what=what, tensor=tensor.name))
                continue
            made = Made() if choice.copied else made_by(decisions[tensor.name], choice.format, resolution)
            if made.lacking == NO_STATISTICS:
                self.unknown.append(tensor.name)
                continue
            self._add(
                Assignment(
                    tensor=tensor,
                    format=choice.format,
                    nbytes=produced.extent(tensor.name).nbytes,
                    offset=produced.extent(tensor.name).offset,
                    because=choice.because,
                    copied=choice.copied,
                    encoder=made.encoder,
                    inputs=made.inputs,
                    made_of=made.digest,
                    lacking=made.lacking,
                ),
                resolution.importance,
            )

    def _add(self, a: Assignment, matrix: Importance | None) -> None:
        """Find out whether the tensor was made with importance, and note it."""
        name, recorded = a.tensor.name, self._produced.encodings.get(a.tensor.name)
        plain = _digest(a)
        usable = not a.copied and a.format.spec.importance != "ignored"
        entry = matrix.entry(a.tensor) if matrix is not None and matrix.covers(a.tensor) else None
        covered = usable and entry is not None
        best = plain
        if covered and entry is not None:
            best = _digest(a, entry.digest)
        a = replace(a, importance=covered, encoding=best)
        self.all.append(a)
        if recorded in (None, best):
            self.known.append(a)
        elif recorded == plain:  # the matrix covers it, and was not used
            self.known.append(replace(a, importance=False, encoding=plain))
        elif usable and IMPORTANCE_DIGEST in self._produced.metadata and matrix is None:
            self.unknown.append(name)
            return
        else:
            self.strange.append(name)
            return
        self._add_companion(a)

    def _add_companion(self, a: Assignment) -> None:
        if a.format.spec.companion is None or a.copied:
            return
        stored = self._stored.get(companion_name(a.tensor, a.format.spec.companion))
        if stored is not None:
            extent = self._produced.extent(stored.name)
            self.companions[a.tensor.name] = replace(
                a,
                tensor=stored,
                format=self._float32,
                nbytes=extent.nbytes,
                offset=extent.offset,
                owner=a.tensor.name,
            )

    def type_findings(self) -> Iterator[Finding]:
        """Missing and surplus tensors, other shapes and types."""
        yield from type_findings(self._stored, self._choices)
        yield from self._misshapen
        wanted = set(self._choices)
        for name, choice in self._choices.items():
            if choice.format.spec.companion is not None:
                wanted.add(f"{name.removesuffix('.weight')}.{choice.format.spec.companion}")
        for name in sorted(self._stored.keys() - wanted):
            yield Finding(what="the source has no such tensor", tensor=name)

    def encoding_findings(self) -> Iterator[Finding]:
        """Tensors that record another encoding than the recipe gives now."""
        for name in self.strange:
            what = (
                "it records another encoding (version, options or importance) than this recipe, matrix and quantrecipe"
                " give it"
            )
            yield Finding(what=what, tensor=name)


def _digest(a: Assignment, importance: str = "") -> str:
    return encoding_digest(
        a.format, copied=a.copied, importance=importance, encoder=a.encoder, inputs=a.made_of
    )


def _metadata(produced: Produced, resolution: Resolution, assignments: list[Assignment]) -> Iterator[Finding]:
    """Pairs that aren't the source's, nor what the recipe sets."""
    if not produced.has_provenance:
        return  # somebody else's metadata
    importance = resolution.selected
    try:
        expected = build_metadata(resolution, assignments)
    except PlanError as error:
        yield Finding(what=str(error))
        return
    for key in dict.fromkeys([*expected, *produced.metadata]):
        if key.startswith((OURS, _SPLIT)) or (importance is None and key.startswith(_IMATRIX)):
            continue
        before, now = expected.get(key), produced.metadata.get(key)
        if before != now:
            what = f"the metadata {key!r} is {_said(now)}, and should be {_said(before)}"
            yield Finding(what=what, file=produced.shards[0].path)


def _digests(produced: Produced, resolution: Resolution, found: _Found) -> Iterator[Finding]:
    importance = resolution.selected
    recorded = produced.text(IMPORTANCE_DIGEST)
    if importance is not None and recorded is not None and importance.digest != recorded:
        what = f"it was made with another importance matrix: its digest is {recorded}, this one's {importance.digest}"
        yield Finding(what=what, file=importance.path)
    statistics, used = resolution.statistics, produced.text(STATISTICS_DIGEST)
    if statistics is not None and used is not None and statistics.digest != used:
        what = f"it was made with other statistics: their digest is {used}, and that of these {statistics.digest}"
        yield Finding(what=what, file=statistics.folder)
    said = produced.text(PLAN_DIGEST)
    if said is None or not produced.encodings:
        return
    sources = {tensor.name: tensor.dtype for tensor in resolution.model.tensors}
    now = plan_digest(
        resolution.recipe.digest,
        recorded,
        (
            (t.name, t.shape, sources.get(t.name, "F32"), t.dtype, produced.extent(t.name).nbytes, encoding)
            for t, encoding in zip(produced.model.tensors, produced.encodings.values(), strict=True)
        ),
    )
    if now != said:
        what = (
            f"the plan's digest is {now}, but the file says {said}: source types, recipe or encodings differ"
        )
        yield Finding(what=what, file=produced.shards[0].path)


def _said(value: GGUFValue | None) -> str:
    if value is None:
        return "not there"
    text = repr(value.decode()) if value.item_type is None else f"an array of {len(value):,}"
    return shortened(text)
