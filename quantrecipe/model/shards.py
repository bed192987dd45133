"""Shards: the files of one model, known by their names: model-00002-of-00003.gguf."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from quantrecipe.errors import ModelError, Problem, abridged

__all__ = ["AGAIN", "SHARD", "require_all", "shard_paths"]

SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.(?P<suffix>gguf|safetensors)")
AGAIN = "the download is incomplete: fetch the model again"


def shard_paths(path: Path) -> tuple[Path, ...]:
    """All shards of the set that a name such as `NAME-00002-of-00003.gguf` belongs to; for others, the file.

    ModelError where shards are missing.
    """
    match = SHARD.fullmatch(path.name)
    if match is None:
        return (path,)
    count = int(match["count"])
    if not 1 <= int(match["number"]) <= count:
        raise ModelError(f"its name says shard {match['number']} of {match['count']}", "rename it", file=path)
    names = [f"{match['stem']}-{i:05}-of-{count:05}.{match['suffix']}" for i in range(1, count + 1)]
    paths = tuple(path.with_name(name) for name in names)
    require_all([shard for shard in paths if not shard.exists()], path)
    return paths


def require_all(missing: Iterable[Path], path: Path) -> None:
    """ModelError that names the files that are missing beside `path`, if any are."""
    if names := [file.name for file in missing]:
        absent = [Problem(what=f"{name} is missing beside it", remedy=AGAIN, file=path) for name in names]
        raise ModelError(abridged(absent))
