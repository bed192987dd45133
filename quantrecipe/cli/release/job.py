"""Job: one run of `release`, with what it was told; and Item, one file of the release from its wish to its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantrecipe.cli.context import Context
from quantrecipe.cli.output_files import model_stem
from quantrecipe.cli.release.parts import Opening
from quantrecipe.engine import Engine, RunOptions
from quantrecipe.evaluate.requests import model_key
from quantrecipe.model.model import Model
from quantrecipe.recipe.recipe import Recipe
from quantrecipe.registry import Registry
from quantrecipe.release.record import WORK_FOLDER, Record
from quantrecipe.release.release import Release, ReleaseFile

if TYPE_CHECKING:
    from quantrecipe.evaluate import Evaluation
    from quantrecipe.plan.plan import Plan
    from quantrecipe.texts import Domain

__all__ = ["Figures", "Item", "Job", "Made", "MatrixMade", "Measured", "Wanted"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """A file as it is asked for.

    label: what the card calls it, its name without the model's: "Q4_K_M", "fit-5GB"
    name:  of the GGUF, without .gguf
    part:  what of the model it is: "model", "mmproj" or "mtp"
    recipe: None for a mix that is still to be found
    """

    wish: ReleaseFile
    label: str
    name: str
    part: str
    recipe: Recipe | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """A file whose plan is made."""

    wish: ReleaseFile
    label: str
    name: str
    part: str
    recipe: Recipe
    plan: Plan


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """Files of one item: paths in the folder, each with its SHA-256."""

    sums: Mapping[str, str]

    @property
    def first(self) -> str:
        """The file, or the first shard: what is given to llama.cpp."""
        return next(iter(self.sums))


@dataclass(frozen=True, kw_only=True, slots=True)
class MatrixMade:
    """The importance matrix of the release. path: in the folder."""

    path: str
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """How far a file is from the unquantized model, over all texts together or over one.

    kld, kld_error, kld_99: KL divergence in nats: mean, its standard error, 99th percentile
    top1:                   share of positions at which both hold the same token for the likeliest
    perplexity, reference:  of the file, and of the unquantized model
    """

    kld: float
    kld_error: float
    kld_99: float
    top1: float
    perplexity: float
    reference: float

    @classmethod
    def of(cls, it: Evaluation) -> Figures:
        """Those that a card tells."""
        return cls(
            kld=it.kld_mean,
            kld_error=it.kld_mean_error,
            kld_99=it.kld_99,
            top1=it.top1,
            perplexity=it.perplexity,
            reference=it.reference_perplexity,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """What was measured of the files.

    files:  figures by the item's name: over all texts, and by text
    chunks: of each text
    engine: what ran the models
    """

    files: Mapping[str, tuple[Figures, Mapping[str, Figures]]] = field(default_factory=dict)
    chunks: Mapping[str, int] = field(default_factory=dict)
    n_ctx: int = 0
    engine: str = ""

    def to_json(self) -> dict[str, Any]:
        """What measurements.json has."""
        return {
            "texts": self.chunks,
            "context": self.n_ctx,
            "engine": self.engine,
            "files": {
                name: {"all": whole, "texts": texts} for name, (whole, texts) in sorted(self.files.items())
            },
        }


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run.

    opening:  how the model is read
    folder:   of the release
    parts:    the model's projector ("mmproj") and draft head ("mtp"), where files are made of them
    domains:  calibration texts, where the matrix is computed
    measured_on, measures: texts to measure on, and whether that is done now
    engine:   llama.cpp; None where nothing needs it, or there is none
    quiet:    nothing but JSON goes to stdout
    """

    ctx: Context
    release: Release
    registry: Registry
    model: Model
    opening: Opening
    folder: Path
    record: Record
    parts: Mapping[str, Model] = field(default_factory=dict)
    domains: Sequence[Domain] = ()
    measured_on: Sequence[Domain] = ()
    measures: bool = True
    engine: Engine | None = None
    threads: int | None = None
    gpu_layers: int | None = None
    force: bool = False
    allow_requantize: bool = False
    quiet: bool = False

    @property
    def name(self) -> str:
        """Of the model, in names of files."""
        return self.release.name or model_stem(self.model.path)

    @property
    def work(self) -> Path:
        """Where what isn't published lies."""
        return self.folder / WORK_FOLDER

    @property
    def running(self) -> RunOptions:
        """How llama.cpp runs models."""
        return {
            "threads": self.threads,
            "gpu_layers": self.gpu_layers,
            "engine": self.engine,
            "log": self.ctx.engine_log,
        }

    @cached_property
    def model_key(self) -> str:
        """A digest of the model's files: another model, or other weights, have another one."""
        return model_key(self.model.files)

    def say(self, text: str) -> None:
        """Tell how far the release is, on stderr."""
        from rich.text import Text

        from quantrecipe.cli.errors import printable
        from quantrecipe.cli.tables import Paragraph

        self.ctx.err.print(Paragraph(Text(printable(text), "dim")))
