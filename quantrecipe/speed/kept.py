"""What was measured on this machine, kept: a JSON file for each measurement, in the folder of the user's caches.

    speed/3f9a01c2.json    {"quantrecipe_speed": 1, "key": "3f9a01c2", "processor": …, "token": {…}, …}

A file that can't be read, or is of another version, counts as none: it can be measured again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from math import log
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from quantrecipe.core.cache import read_cached
from quantrecipe.errors import EvaluationError
from quantrecipe.model.model import Model
from quantrecipe.plain_data import plain
from quantrecipe.speed import folder
from quantrecipe.speed.profile import Place, Profile, Rates, Role, shapes_digest
from quantrecipe.typed import NotNegative, Positive, Record, json_object, typed
from quantrecipe.whole_file import whole_file

__all__ = ["find_profiles", "forget", "kept_profiles", "remember"]

_KEY, _VERSION = "quantrecipe_speed", 1

_Text = Annotated[str, Meta(max_length=300)]


class _Rates(Record):
    constant: NotNegative
    by: dict[_Text, dict[Role, NotNegative]]


class _File(Record):
    quantrecipe_speed: int
    key: _Text
    processor: _Text
    device: _Text
    threads: Positive
    engine: _Text
    model: _Text
    shapes: _Text
    width: Positive
    token: _Rates
    prompt: _Rates
    tokens: Positive
    misfit: NotNegative
    made: datetime


def kept_profiles() -> list[Profile]:
    """All that was measured, the newest first."""
    try:
        paths = sorted(folder.speed_folder().glob("*.json"))
    except (OSError, RuntimeError):  # RuntimeError: a user without a home
        return []
    found = [profile for path in paths if (profile := _read(path)) is not None]
    return sorted(found, key=lambda it: it.made, reverse=True)


def find_profiles(model: Model, processor: str, *, threads: int | None = None) -> Mapping[Place, Profile]:
    """What was measured on a machine that fits a model best: its own shapes, else those of the nearest width.

    processor: the machine's, by which its measurements are known, those of its GPU, too
    threads:   those of the processor; None for whatever was measured last
    """
    digest, width = shapes_digest(model), _width(model)

    def distance(profile: Profile) -> tuple[bool, float]:
        return profile.shapes != digest, abs(log(profile.width / width))

    found: dict[Place, Profile] = {}
    for profile in kept_profiles():  # the newest first, and so the newest of those that are as near
        if profile.processor != processor or (threads not in (None, profile.threads) and not profile.device):
            continue
        best = found.get(profile.place)
        if best is None or distance(profile) < distance(best):
            found[profile.place] = profile
    return found


def remember(profile: Profile) -> Path:
    """Keep a measurement, in the place of an older one of the same: its file. EvaluationError where that can't be."""
    path = folder.speed_folder() / f"{profile.key}.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as file:
            file.write((json.dumps({_KEY: _VERSION, **plain(profile)}, indent=1) + "\n").encode())
    except OSError as error:
        what = f"can't be written ({error.strerror or error})"
        raise EvaluationError(what, "QUANTRECIPE_CACHE_DIR names another folder", file=path) from error
    return path


def forget(key: str) -> list[Profile]:
    """Remove the measurements whose keys begin so, or all of them ("all"). EvaluationError where there is none."""
    gone = [profile for profile in kept_profiles() if key == "all" or profile.key.startswith(key)]
    if not gone or not key:
        raise EvaluationError(
            f"nothing was measured under the key {key!r}", "`quantrecipe speed --list` lists all"
        )
    for profile in gone:
        (folder.speed_folder() / f"{profile.key}.json").unlink(missing_ok=True)
    return gone


def _width(model: Model) -> int:
    embedding = next((tensor for tensor in model.tensors if tensor.role == "token_embd"), None)
    return model.number("embedding_length") or (embedding.cols if embedding is not None else 1) or 1


def _read(path: Path) -> Profile | None:
    raw = read_cached(path)
    try:
        content = typed(json_object(raw or b""), _File)
    except ValueError:
        return None
    if content.quantrecipe_speed != _VERSION or content.made.tzinfo is None:
        return None
    fields = {name: getattr(content, name) for name in content.__struct_fields__}
    del fields[_KEY], fields["key"]
    for name in ("token", "prompt"):
        fields[name] = Rates(constant=fields[name].constant, by=fields[name].by)
    profile = Profile(**fields)
    return profile if path.stem == profile.key else None
