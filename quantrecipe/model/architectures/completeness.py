"""check_tensors: llama.cpp loads no model with a tensor too few, too many, or of another shape.

It says so when it opens the file: after the hours of quantizing, and without a word of what is at fault.
Two things it would load are refused as well, since they are halves of a model: optional tensors that some of the
layers have and others don't, and a missing output where config.json says that it isn't the embedding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from quantrecipe.errors import ModelError, Problem, abridged
from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.layout import HEAD, Part, length
from quantrecipe.model.architectures.names import COMPANIONS, Names, layer_of
from quantrecipe.model.storable import as_ggml_writes
from quantrecipe.tensor import TensorInfo

__all__ = ["check_tensors", "present_layers"]

_SHOWN = 5  # layers
_AGAIN = "a part of the model is missing: download it again"
_MEND = "the two don't belong together: correct config.json, or download both again"
_TIE = f'{_AGAIN}; if the embedding is to serve as the output, say "tie_word_embeddings": true'
_FOREIGN = "delete it if the model works without; else no GGUF of this architecture can hold the model"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Expected:
    """A tensor that may be there: its layer, and the names of its lengths."""

    layer: int | None
    terms: tuple[str, ...]
    remedy: str  # where it is missing, "" where that's as well


def present_layers(arch: Architecture, config: Config) -> set[int]:
    """The numbers of the layers that the GGUF has tensors of."""
    where = arch.layout.present
    return set(range(arch.layers(config)) if where is None else where(config))


def check_tensors(
    arch: Architecture,
    config: Config,
    tensors: Mapping[str, TensorInfo],
    stored: Mapping[str, str],
    names: Names,
) -> None:
    """ModelError that tells what is missing, superfluous or of the wrong shape.

    `tensors` go by GGUF name, `stored` says what the checkpoint calls them, `names` what its names become.
    """
    expected = _expected(arch, config, tensors)
    empty = present_layers(arch, config) - set(map(layer_of, tensors))
    drafts = set(arch.layout.drafts(config))
    problems = list(_empty_layers(arch, config, empty - drafts if drafts <= empty else empty))
    for name, it in expected.items():
        if (info := tensors.get(name)) is not None:
            problems += _wrong_shape(arch, config, info, stored[name], it)
        elif it.remedy and it.layer not in empty:
            what = f"tensor {names.usual(name, stored)!r} ({name}) is missing"
            problems.append(Problem(what=what, remedy=it.remedy, file=config.folder))
    for name in tensors:
        if name in expected or _is_companion(name, expected):
            continue
        what = f"tensor {stored[name]!r} ({name}) is none that llama.cpp has for a {arch.name}"
        problems.append(Problem(what=what, remedy=_FOREIGN, file=config.folder))
    if problems:
        raise ModelError(abridged(problems))


def _is_companion(name: str, expected: Mapping[str, _Expected]) -> bool:
    return any(name.endswith(end) and f"{name.removesuffix(end)}.weight" in expected for end in COMPANIONS)


def _expected(arch: Architecture, config: Config, tensors: Mapping[str, TensorInfo]) -> dict[str, _Expected]:
    """List all tensors that may be there, by their names in the GGUF."""
    # of several towers, the one that holds them says whether the output is the embedding
    outer = config.whole if isinstance(config.whole.get("text_config"), Mapping) else config.values
    untied = outer.get("tie_word_embeddings") is False
    if (config.folder / "modules.json").is_file():
        untied = False  # an embedding model has no use for an output
    made: dict[str, _Expected] = {}
    present, whole = present_layers(arch, config), arch.layout.present is None
    everywhere = Part(
        where=lambda config: sorted(present),
        required=arch.layout.required,
        optional=arch.layout.optional,
    )
    for part in (everywhere, *arch.layout.parts):
        # config.json may say anything, and one layer more than there can be is enough for an error
        where = islice(part.where(config), max(arch.layers(config), len(tensors)) + 1)
        numbers = tuple(layer for layer in where if whole or layer in present)
        if not numbers:  # then there is none of what it has for the whole model, either
            continue
        for template, terms in (*part.required.items(), *part.optional.items()):
            places: tuple[int | None, ...] = numbers if "{layer}" in template else (None,)
            found = [template.format(layer=place) for place in places]
            remedy = _TIE if template in HEAD and untied else ""
            some = not part.loose and any(name in tensors for name in found)
            if template in part.required or some:
                remedy = remedy or _AGAIN
            for place, name in zip(places, found, strict=True):
                made[name] = _Expected(layer=place, terms=terms, remedy=remedy)
    return made


def _empty_layers(arch: Architecture, config: Config, empty: set[int]) -> Iterator[Problem]:
    if not empty:
        return
    count = arch.layers(config)
    shown = ", ".join(map(str, sorted(empty)[:_SHOWN])) + (", …" if len(empty) > _SHOWN else "")
    what = f"says that there are {count} layers, but there are no tensors of {len(empty)} of them ({shown})"
    yield Problem(what=what, remedy=_MEND, file=config.path)


def _wrong_shape(
    arch: Architecture, config: Config, info: TensorInfo, stored: str, it: _Expected
) -> Iterator[Problem]:
    if not it.terms:
        return
    expected = tuple(length(config, term, it.layer or 0, arch.lengths) for term in it.terms)
    if info.shape != as_ggml_writes(expected):
        by = ", ".join(it.terms)
        what = f"tensor {stored!r} ({info.name}) has the shape {info.shape} (expected: {expected}, by {by})"
        yield Problem(what=what, remedy=_MEND, file=config.path)
