"""Parquet files, as data sets have them: each row is read as a line of JSON is.

pyarrow reads them, which is large and comes with `pip install quantrecipe[parquet]`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from quantrecipe.errors import TextError

__all__ = ["is_parquet", "rows_of"]

_MAGIC = b"PAR1"
_ROWS = 1024
"""That are made Python values at a time."""


def is_parquet(data: bytes) -> bool:
    """Whether a file begins as Parquet files do."""
    return data.startswith(_MAGIC)


def rows_of(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each row with its number, counted from 1. Empty values are left out, and so are rows of nothing else.

    TextError without pyarrow, and where it can't read the file.
    """
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError:
        remedy = "pip install 'quantrecipe[parquet]'"
        raise TextError(
            "is a Parquet file, and pyarrow, which reads it, isn't installed", remedy, file=path
        ) from None
    number = 0
    try:
        with ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_ROWS):
                for row in batch.to_pylist():
                    number += 1
                    if said := {key: value for key, value in row.items() if value not in (None, "")}:
                        yield number, said
    except (ArrowException, OSError, UnicodeDecodeError, RecursionError) as error:
        raise TextError(f"can't be read as Parquet ({error})", "download it again", file=path) from error
