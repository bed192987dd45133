"""Release: what somebody wants of a release: its files, importance matrix, texts to measure on, and names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from quantrecipe.recipe.budget import Budget

__all__ = [
    "DEFAULT_NAME",
    "NO_MATRIX",
    "NO_PART",
    "FitWish",
    "MatrixWish",
    "MeasureWish",
    "MemoryWish",
    "PartWish",
    "Release",
    "ReleaseFile",
]

DEFAULT_NAME = "{model}-{recipe}.gguf"
NO_MATRIX = "none"
"""What stands for no importance matrix."""
NO_PART = "none"
"""What stands for no projector, and for no draft head."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FitWish:
    """A budget for which the best mix is looked for.

    budget: the limits
    like:   as many bytes as this preset or recipe makes; "" for none
    types:  names or globs to choose from; none: what runs well
    texts:  search texts, by which the mix is chosen; none: by what is usual of models
    prior:  measure nothing
    label:  what the mix is called: "fit-5GB"
    """

    budget: Budget
    like: str
    types: tuple[str, ...]
    texts: tuple[str, ...]
    prior: bool
    label: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ReleaseFile:
    """One entry of `files`, and the line in which it stands.

    recipe:   a path or the name of a shipped recipe, or a glob of such names; "" for a fit
    name:     with the places {model} and {recipe}
    settings: values of the recipe's variables
    imatrix:  a file, `NO_MATRIX`, or "" for that of the release
    split:    bytes; None for that of the release
    note:     what the card says about it
    """

    line: int
    recipe: str
    fit: FitWish | None
    name: str
    settings: Mapping[str, str]
    imatrix: str
    split: int | None
    note: str


@dataclass(frozen=True, kw_only=True, slots=True)
class MatrixWish:
    """An importance matrix: a file that there is, or texts from which it is computed.

    chunks: the most of each text; None for all
    """

    line: int
    file: Path | None = None
    texts: tuple[str, ...] = ()
    contexts: tuple[int, ...] = (512,)
    chunks: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasureWish:
    """Texts on which the files are compared with the unquantized model. chunks: the most of each; None for all."""

    line: int
    texts: tuple[str, ...]
    chunks: int | None = None
    context: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryWish:
    """How a file is run where the card says how much memory it takes."""

    context: int = 8192
    kv: str = "f16"


@dataclass(frozen=True, kw_only=True, slots=True)
class PartWish:
    """The projector or the draft head of the model, a file for each recipe; without recipes, none is made."""

    line: int
    recipes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Release:
    """What a release.yaml says; "" and None are what it leaves to the model, or leaves out.

    file:   as errors name it
    folder: to which its paths are relative
    statistics:  a folder of Gram matrices, for recipes whose encoder needs them
    sensitivity: what types cost, for budgets
    mmproj: files of the projector; None makes one where the model has a tower
    mtp:    files of the draft head alone
    split:  bytes of a file, at most; None for no limit
    """

    file: str
    folder: Path
    text: str
    name: str
    base_model: str
    quantized_by: str
    license: str
    languages: tuple[str, ...]
    tags: tuple[str, ...]
    repo: str
    description: str
    files: tuple[ReleaseFile, ...]
    imatrix: MatrixWish | None
    statistics: Path | None
    sensitivity: Path | None
    measure: MeasureWish | None
    mmproj: PartWish | None
    mtp: PartWish | None
    split: int | None
    memory: MemoryWish
