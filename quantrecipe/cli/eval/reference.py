"""The reference of `eval`: a file that was made, or a model to be run, whose answers are then kept in the cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

import click

from quantrecipe.cli.context import Context
from quantrecipe.cli.options.texts import texts_of
from quantrecipe.cli.progress import EvalBar
from quantrecipe.core.cache import cache_folder
from quantrecipe.engine import RunOptions, find_engine
from quantrecipe.engine.session import existing_gguf
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
from quantrecipe.model.open_model import open_model
from quantrecipe.texts import read_domains

__all__ = ["get_reference"]


def get_reference(
    ctx: Context,
    path: Path,
    texts: Sequence[str],
    files: Sequence[Path],
    *,
    raw: bool,
    save: Path | None,
    force: bool,
    n_ctx: int | None,
    chunks: int | None,
    progress: EvalBar,
    **running: Unpack[RunOptions],
) -> Reference:
    """The reference at `path`, or the one that the model at `path` makes of the texts.

    files: to be evaluated; the first has the chat template where the unquantized model isn't there
    """
    if path.is_file() and is_reference(path):
        if save is not None:
            raise click.UsageError(f"{path} is a reference already: --save-reference needs a model.")
        if n_ctx is not None or chunks is not None:
            raise click.UsageError("--ctx and --chunks are for making a reference; this one has its own.")
        made = read_reference(path)
        return _with_texts(made, _texts(ctx, texts, files[0] if files else path, raw=raw))
    if not texts:
        raise click.UsageError("Say with --text on which text to evaluate.")
    if save is not None and save.exists() and not force:
        raise OutputError(f"{save} exists", "say --force to replace it, or name another file")
    known = _texts(ctx, texts, path, raw=raw)
    context = DEFAULT_CONTEXT if n_ctx is None else n_ctx
    out = save
    if out is None:
        # Engines round differently, by as much as the best types lose: each gets a reference of its own.
        key = reference_key(path, known, n_ctx=context, chunks=chunks)
        out = _cached(f"{key}-{find_engine(running.get('engine')).digest}")
        if (reference := _read_cached(out)) is not None:
            return reference
    return make_reference(
        path,
        known,
        out,
        n_ctx=context,
        chunks=chunks,
        progress=progress.task(f"{path.name} (reference)"),
        **running,
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


def _texts(ctx: Context, texts: Sequence[str], model: Path, *, raw: bool) -> list[Text]:
    """What is named, chats as this model's template writes them."""
    return texts_of(
        ctx,
        read_domains(texts, raw=raw),
        lambda: open_model(existing_gguf(model), registry=ctx.load_registry()),
    )


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
