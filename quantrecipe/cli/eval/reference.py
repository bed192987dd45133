"""The reference of `eval`: a file that was made, or a model to be run, whose answers are then kept in the cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from quantrecipe.cli.progress import EvalBar
from quantrecipe.core.cache import cache_folder
from quantrecipe.engine import Engine, Session, find_engine
from quantrecipe.errors import EvaluationError, OutputError
from quantrecipe.evaluate import (
    DEFAULT_CONTEXT,
    Reference,
    Text,
    is_reference,
    make_reference,
    read_reference,
    reference_key,
)

__all__ = ["Unmade", "find_reference", "is_saved", "make"]

_NOISE_CHUNKS = 8
"""That are run a second time, with other batches: two thousand positions at the default context."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Unmade:
    """A reference that has to be made: of which texts, how, and where it is kept. key: see `reference_key`."""

    texts: tuple[Text, ...]
    n_ctx: int
    chunks: int | None
    out: Path
    key: str


def is_saved(path: Path) -> bool:
    """True for a reference that was saved; else the path is that of a model."""
    return path.is_file() and is_reference(path)


def find_reference(
    path: Path,
    files: Sequence[Path],
    texts: Sequence[Text],
    *,
    save: Path | None,
    force: bool,
    n_ctx: int | None,
    chunks: int | None,
    engine: Engine | str | Path | None,
) -> Reference | Unmade:
    """The reference at `path`, or what is known of the texts, else how it is to be made.

    files: of the model at `path`
    """
    if is_saved(path):
        if save is not None:
            raise click.UsageError(f"{path} is a reference already: --save-reference needs a model.")
        if n_ctx is not None or chunks is not None:
            raise click.UsageError("--ctx and --chunks are for making a reference; this one has its own.")
        return _with_texts(read_reference(path), texts)
    if not texts:
        raise click.UsageError("Say with --text on which text to evaluate.")
    if save is not None and save.exists() and not force:
        raise OutputError(f"{save} exists", "say --force to replace it, or name another file")
    context = DEFAULT_CONTEXT if n_ctx is None else n_ctx
    key = reference_key(
        files,
        texts,
        n_ctx=context,
        chunks=chunks,
        noise_chunks=_NOISE_CHUNKS,
    )
    # Engines round differently, by as much as the best types lose: each gets a reference of its own.
    out = _cached(f"{key}-{find_engine(engine).digest}") if save is None else save
    if save is None and (reference := _read_cached(out)) is not None:
        return reference
    return Unmade(texts=tuple(texts), n_ctx=context, chunks=chunks, out=out, key=key)


def make(unmade: Unmade, model: Session, *, progress: EvalBar) -> Reference:
    """Run the model for the reference."""
    return make_reference(
        model,
        unmade.texts,
        unmade.out,
        n_ctx=unmade.n_ctx,
        chunks=unmade.chunks,
        noise_chunks=_NOISE_CHUNKS,
        key=unmade.key,
        progress=progress.task(f"{model.path.name} (reference)"),
    )


def _cached(key: str) -> Path:
    try:
        folder = cache_folder() / "references"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: a user without a home
        raise OutputError(
            f"there is no place to keep the reference in ({error})", "say with --save-reference where"
        ) from error
    return folder / f"{key}.reference"


def _read_cached(path: Path) -> Reference | None:
    """None where there is none, or a damaged one, which is made again."""
    try:
        return read_reference(path) if path.exists() else None
    except EvaluationError:
        return None


def _with_texts(reference: Reference, given: Sequence[Text]) -> Reference:
    """The reference, if it was made with just these texts; with its own, if none are named."""
    if given and [text.digest for text in given] != [text.digest for text in reference.texts]:
        names = ", ".join(text.name for text in reference.texts)
        raise EvaluationError(
            f"the reference was made with other texts: {names}",
            "leave out --text, or make a reference with these",
            file=reference.path,
        )
    return reference
