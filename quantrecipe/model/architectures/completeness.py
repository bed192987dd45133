"""check_tensors: llama.cpp loads no model with a tensor too few, too many, or of another shape.

It says so when it opens the file: after the hours of quantizing, and without a word of what is at fault.
Two things it would load are refused as well, since they are halves of a model: optional tensors that some of the
layers have and others don't, and a missing output where config.json says that it isn't the embedding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from gguf import TensorNameMap

from quantrecipe.errors import ModelError, Problem, abridged
from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.hyperparameters import LAYERS
from quantrecipe.model.architectures.layout import HEAD, length
from quantrecipe.tensor import TensorInfo

__all__ = ["check_tensors"]

_SHOWN = 5  # layers
_AGAIN = "a part of the model is missing: download it again"
_MEND = "the two don't belong together: correct config.json, or download both again"
_TIE = f'{_AGAIN}; if the embedding is to serve as the output, say "tie_word_embeddings": true'
_FOREIGN = "delete it if the model works without; else no GGUF of this architecture can hold the model"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Expected:
    """A tensor that may be there: its usual name in the checkpoint, and the names of its lengths."""

    usual: str
    layer: int | None
    terms: tuple[str, ...]
    remedy: str  # where it is missing, "" where that's as well


def check_tensors(
    arch: Architecture,
    config: Config,
    tensors: Mapping[str, TensorInfo],
    stored: Mapping[str, str],
    names: TensorNameMap,
) -> None:
    """ModelError that tells what is missing, superfluous or of the wrong shape.

    `tensors` go by GGUF name, `stored` says what the checkpoint calls them, `names` what its names become.
    """
    expected = _expected(arch, config, tensors, names)
    empty = set(range(config.need(*LAYERS))) - {tensor.layer for tensor in tensors.values()}
    problems = list(_empty_layers(config, empty))
    for name, it in expected.items():
        if (info := tensors.get(name)) is not None:
            problems += _wrong_shape(config, info, stored[name], it.terms)
        elif it.remedy and it.layer not in empty:
            what = f"tensor {it.usual!r} ({name}) is missing"
            problems.append(Problem(what=what, remedy=it.remedy, file=config.folder))
    for name in tensors:
        if name in expected:
            continue
        what = f"tensor {stored[name]!r} ({name}) is none that llama.cpp has for a {arch.name}"
        problems.append(Problem(what=what, remedy=_FOREIGN, file=config.folder))
    if problems:
        raise ModelError(abridged(problems))


def _expected(
    arch: Architecture, config: Config, tensors: Mapping[str, TensorInfo], names: TensorNameMap
) -> dict[str, _Expected]:
    """List all tensors that may be there, by their names in the GGUF."""
    untied = config.find("tie_word_embeddings") is False
    if (config.folder / "modules.json").is_file():
        untied = False  # an embedding model has no use for an output
    made: dict[str, _Expected] = {}
    layout = arch.layout
    for template, terms in (*layout.required.items(), *layout.optional.items()):
        numbers: list[int | None] = [*range(config.need(*LAYERS))] if "{layer}" in template else [None]
        usual = {number: template.format(layer=number) for number in numbers}
        converted = {number: _converted(names, name) for number, name in usual.items()}
        remedy = _TIE if template in HEAD and untied else ""
        if template in layout.required or any(name in tensors for name in converted.values()):
            remedy = remedy or _AGAIN
        for number in numbers:
            made[converted[number]] = _Expected(usual=usual[number], layer=number, terms=terms, remedy=remedy)
    return made


def _converted(names: TensorNameMap, usual: str) -> str:
    name = names.get_name(usual, try_suffixes=(".weight", ".bias"))
    if name is None:
        raise LookupError(f"the layout holds {usual!r}, which gguf's tensor name map doesn't know")
    return name


def _empty_layers(config: Config, empty: set[int]) -> Iterator[Problem]:
    if not empty:
        return
    count = config.need(*LAYERS)
    shown = ", ".join(map(str, sorted(empty)[:_SHOWN])) + (", …" if len(empty) > _SHOWN else "")
    what = f"says that there are {count} layers, but there are no tensors of {len(empty)} of them ({shown})"
    yield Problem(what=what, remedy=_MEND, file=config.path)


def _wrong_shape(config: Config, info: TensorInfo, stored: str, terms: tuple[str, ...]) -> Iterator[Problem]:
    expected = tuple(length(config, term) for term in terms)
    found = info.shape
    while len(found) > len(expected) and found[0] == 1:  # to ggml, a row is a vector
        found = found[1:]
    if found != expected:
        by = ", ".join(terms)
        what = f"tensor {stored!r} ({info.name}) has the shape {info.shape} (expected: {expected}, by {by})"
        yield Problem(what=what, remedy=_MEND, file=config.path)
