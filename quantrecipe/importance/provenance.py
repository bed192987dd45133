"""Provenance: where an importance matrix comes from, as its GGUF says it.

llama-imatrix names its calibration texts and the number of chunks. `quantrecipe imatrix compute` writes in the same
file which model was run over which texts, and how; llama.cpp leaves keys alone that it doesn't know. A file without any
of these keys has no provenance, and a key that isn't there says that its fact isn't known.

    quantrecipe.imatrix.version               string   of quantrecipe
    quantrecipe.imatrix.engine                string   the llama.cpp that ran the model
    quantrecipe.imatrix.model.fingerprint     string   of the model: model/fingerprint
    quantrecipe.imatrix.model.xxh3_128        string   XXH3-128 of the bytes of the model's files, one after the other
    quantrecipe.imatrix.text.names            string[] the calibration texts, a name for each domain
    quantrecipe.imatrix.text.xxh3_128         string[] XXH3-128 of the bytes of each one's files; "" if unknown
    quantrecipe.imatrix.text.tokens           u64[]    how many of its tokens were run; 0 if unknown
    quantrecipe.imatrix.text.weights          f64[]    how many times each of these tokens counts
    quantrecipe.imatrix.template.xxh3_128     string   XXH3-128 of the chat template that wrote chats as text
    quantrecipe.imatrix.contexts              u32[]    lengths of the contexts that the texts were run in, in tokens
    quantrecipe.imatrix.seed                  u64      of what was drawn by lot
    quantrecipe.imatrix.skip                  u64      chunks at the beginning that were left out
    quantrecipe.imatrix.chunks                u64      chunks that were run at most
    quantrecipe.imatrix.all_experts           bool     every token went through every expert

No time, path or user is recorded, so that the same run gives the same file everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TypeVar

from quantrecipe.gguf.values import ValueType

__all__ = ["KEYS", "PREFIX", "CalibrationText", "Provenance", "joined"]

T = TypeVar("T")

PREFIX = "quantrecipe.imatrix."
KEYS: Mapping[str, tuple[ValueType, bool]] = MappingProxyType(
    {
        "version": (ValueType.STRING, False),
        "engine": (ValueType.STRING, False),
        "model.fingerprint": (ValueType.STRING, False),
        "model.xxh3_128": (ValueType.STRING, False),
        "text.names": (ValueType.STRING, True),
        "text.xxh3_128": (ValueType.STRING, True),
        "text.tokens": (ValueType.UINT64, True),
        "text.weights": (ValueType.FLOAT64, True),
        "template.xxh3_128": (ValueType.STRING, False),
        "contexts": (ValueType.UINT32, True),
        "seed": (ValueType.UINT64, False),
        "skip": (ValueType.UINT64, False),
        "chunks": (ValueType.UINT64, False),
        "all_experts": (ValueType.BOOL, False),
    }
)
"""By key without the prefix: the type of the value or of its items, and whether it is an array; as they are written."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CalibrationText:
    """A text that the model was run over: what one --text names.

    name:   of its domain: "code"
    digest: XXH3-128 of the bytes of its files, "" if unknown
    tokens: how many of its tokens were run, 0 if unknown
    weight: how many times each of these tokens counts
    """

    name: str
    digest: str = ""
    tokens: int = 0
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Provenance:
    """Where a matrix comes from; "", () and None are what isn't known, or isn't one value for all that was merged.

    texts:       the calibration texts
    template:    XXH3-128 of the chat template that wrote chats as text
    contexts:    lengths of the contexts that the texts were run in, in tokens, ascending
    fingerprint: of the model, as `str(fingerprint(model))` writes it
    model:       XXH3-128 of the bytes of the model's files, one after the other
    version:     of quantrecipe
    engine:      the llama.cpp that ran the model
    seed:        of what was drawn by lot
    skip:        chunks at the beginning that were left out
    chunks:      chunks that were run at most; None also where there was no limit
    all_experts: whether every token went through every expert
    """

    texts: tuple[CalibrationText, ...] = ()
    template: str = ""
    contexts: tuple[int, ...] = ()
    fingerprint: str = ""
    model: str = ""
    version: str = ""
    engine: str = ""
    seed: int | None = None
    skip: int | None = None
    chunks: int | None = None
    all_experts: bool | None = None


def joined(parts: Sequence[tuple[Provenance | None, int, Sequence[str]]]) -> Provenance | None:
    """The provenance of a sum: of (provenance, how many times the file counts, its `imatrix.datasets`).

    Texts are added up. What isn't the same for all files is left out, and so is what one of them doesn't say. A file
    without a provenance has the texts that llama-imatrix names, of which no more is known. None where no file has one.
    """
    known = [provenance or Provenance() for provenance, _, _ in parts]
    if not any(provenance is not None for provenance, _, _ in parts):
        return None
    texts: dict[tuple[str, str, float], CalibrationText] = {}
    for provenance, times, datasets in parts:
        for text in _texts(provenance, datasets):
            key = text.name, text.digest, text.weight * times
            so_far = texts.get(key, CalibrationText(name=text.name, digest=text.digest, weight=key[2]))
            texts[key] = replace(so_far, tokens=so_far.tokens + text.tokens)
    return Provenance(
        texts=tuple(texts.values()),
        template=_same((it.template for it in known), ""),
        contexts=tuple(sorted({length for it in known for length in it.contexts})),
        fingerprint=_same((it.fingerprint for it in known), ""),
        model=_same((it.model for it in known), ""),
        version=_same((it.version for it in known), ""),
        engine=_same((it.engine for it in known), ""),
        seed=_same((it.seed for it in known), None),
        skip=_same((it.skip for it in known), None),
        chunks=_same((it.chunks for it in known), None),
        all_experts=_same((it.all_experts for it in known), None),
    )


def _texts(provenance: Provenance | None, datasets: Sequence[str]) -> Iterable[CalibrationText]:
    return provenance.texts if provenance is not None else map(_named, datasets)


def _named(dataset: str) -> CalibrationText:
    return CalibrationText(name=dataset)


def _same(values: Iterable[T], otherwise: T) -> T:
    """The value that all have; `otherwise` where they differ."""
    first, *others = values
    return first if all(other == first for other in others) else otherwise
