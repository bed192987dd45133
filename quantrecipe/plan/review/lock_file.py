"""Lock files: TOML, sorted, one line for each thing that can change.

    lock = 1                                     version of this layout
    [recipe]       name, digest
    [model]        architecture, headers
    [importance]   file, digest                  if there is a matrix
    [versions]     quantrecipe, and the plugins whose formats are used
    [formats]      encoder version of each type that is made
    [output]       plan, provenance, nbytes, bits_per_weight, files: {data, tensors}
    [metadata]     of the model; what is long stands as a hash
    [tensors]      lines: {name, layers, shape, from, type, options, fallback_from}

`*` stands for the number of each of the layers. The order of the tensors is that of the names and layers: the order in
which they are written follows from the plan.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from quantrecipe.errors import PlanError, QuantrecipeError
from quantrecipe.layer_ranges import layer_ranges, read_layer_ranges
from quantrecipe.plan.review.lock import Lock, LockedTensor
from quantrecipe.recipe.reading.file_tree import is_revision, read_revision
from quantrecipe.tensor import split_name

__all__ = ["is_lock", "lock_text", "parse_lock", "read_lock"]

VERSION = 1
_HEAD = "# A plan, frozen by `quantrecipe lock`"
_MAX_BYTES = 64 * 2**20  # a lock of the largest models has some KiB: what is so long is none
_MAX_TENSORS = 1_000_000  # a line of a hostile file may name any number of layers
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_NO_KEY = re.compile(r""""(?:[^"\\\n]|\\.)*"?|'[^'\n]*'?|\#.*|\d\.\d""")
"""Texts, comments and fractions. In what else there is, a dot would be one in a key, such as a.b.c, for which TOML's
reader takes a time that grows with the square of its parts. Lock files have none.
"""
_AGAIN = "write it anew with `quantrecipe lock`"


def is_lock(ref: str) -> bool:
    """True for a file, or a path at a revision of git, that begins as lock files do."""
    try:
        return _read(ref, len(_HEAD)) == _HEAD.encode()
    except (OSError, QuantrecipeError):
        return False


def read_lock(ref: str | Path) -> Lock:
    """A lock from a file, or from a path at a revision of git (main:mine.lock). PlanError where it is none."""
    file = str(ref)
    try:
        data = _read(file, _MAX_BYTES + 1)
    except OSError as error:
        what = f"can't be read: {error.strerror or error}"
        raise PlanError(what, "`quantrecipe lock` writes lock files", file=file) from error
    if len(data) > _MAX_BYTES:
        raise PlanError(f"is no lock file: more than {_MAX_BYTES >> 20} MiB", _AGAIN, file=file)
    try:
        return parse_lock(data.decode("utf-8"), file=file)
    except UnicodeDecodeError as error:
        raise PlanError("is no lock file: it isn't UTF-8 text", _AGAIN, file=file) from error


def parse_lock(text: str, *, file: str = "recipe.lock") -> Lock:
    """A lock from its text. PlanError where it is none, or of another version."""
    try:
        if "." in _NO_KEY.sub("", text):
            raise ValueError("a dot stands outside of texts and numbers")
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise PlanError(f"is no lock file: {error}", _AGAIN, file=file) from error
    version = document.get("lock", "none")
    if version != VERSION:
        said = version if isinstance(version, int | str) else type(version).__name__
        what = f"has version {said!r:.40} of the lock layout (expected: {VERSION})"
        raise PlanError(what, "use the quantrecipe that wrote it, or write it anew", file=file)
    try:
        return _lock(document)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        missing = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise PlanError(f"is a damaged lock file: {missing}", _AGAIN, file=file) from error


def lock_text(lock: Lock) -> str:
    """The text of a lock, the same for the same lock."""
    return "\n".join(_lines(lock)) + "\n"


def _lines(lock: Lock) -> Iterator[str]:
    yield f"{_HEAD}; `quantrecipe apply --locked` refuses whatever differs."
    yield f"lock = {VERSION}"
    yield from _table("recipe", {"name": lock.recipe, "digest": lock.recipe_digest})
    yield from _table("model", {"architecture": lock.arch, "headers": lock.headers})
    if lock.importance is not None:
        yield from _table("importance", {"file": lock.importance_file, "digest": lock.importance})
    yield from _table("versions", lock.distributions)
    yield from _table("formats", lock.formats)
    yield from _table(
        "output",
        {
            "plan": lock.plan_digest,
            "provenance": lock.provenance,
            "nbytes": lock.nbytes,
            "bits_per_weight": lock.bits_per_weight,
        },
    )
    yield "files = ["
    for nbytes, tensors in lock.files:
        yield f"  {{data = {nbytes}, tensors = {tensors}}},"
    yield "]"
    yield from _table("metadata", lock.metadata)
    yield "\n[tensors]"
    yield "lines = ["
    for line in _tensor_lines(lock.tensors):
        yield f"  {_inline(line)},"
    yield "]"


def _tensor_lines(tensors: Mapping[str, LockedTensor]) -> list[dict[str, Any]]:
    """Tensors that differ in their layer's number alone share a line."""
    groups: dict[tuple[str, str], tuple[dict[str, Any], list[int]]] = {}
    for name, locked in tensors.items():
        layer, _ = split_name(name)
        pattern = name if layer is None else name.replace(f"blk.{layer}.", "blk.*.", 1)
        said: dict[str, Any] = {"shape": list(locked.shape), "from": locked.source, "type": locked.type}
        if locked.options:
            said["options"] = dict(locked.options)
        if locked.wanted is not None:
            said["fallback_from"] = locked.wanted
        key = (pattern if layer is not None else f"\0{pattern}", json.dumps(said, sort_keys=True))
        groups.setdefault(key, ({"name": pattern} | said, []))[1].extend([] if layer is None else [layer])
    lines = []
    for said, layers in groups.values():
        at = {"layers": layer_ranges(layers)} if layers else {}
        lines.append((said["name"], layers[:1] or [-1], {"name": said["name"], **at, **said}))
    return [line for _, _, line in sorted(lines, key=lambda item: item[:2])]


def _lock(document: Mapping[str, Any]) -> Lock:
    recipe, model, output = document["recipe"], document["model"], document["output"]
    importance = document.get("importance")
    return Lock(
        recipe=_text_of(recipe["name"]),
        recipe_digest=_text_of(recipe["digest"]),
        arch=_text_of(model["architecture"]),
        headers=_text_of(model["headers"]),
        metadata=dict(document["metadata"]),
        importance=None if importance is None else _text_of(importance["digest"]),
        importance_file=None if importance is None else _text_of(importance["file"]),
        distributions={name: _text_of(version) for name, version in document["versions"].items()},
        formats={name: int(version) for name, version in document["formats"].items()},
        provenance=bool(output["provenance"]),
        files=tuple((int(file["data"]), int(file["tensors"])) for file in output["files"]),
        nbytes=int(output["nbytes"]),
        bits_per_weight=float(output["bits_per_weight"]),
        plan_digest=_text_of(output["plan"]),
        tensors=_tensors(document["tensors"]["lines"]),
    )


def _tensors(lines: list[dict[str, Any]]) -> dict[str, LockedTensor]:
    tensors: dict[str, LockedTensor] = {}
    for line in lines:
        locked = LockedTensor(
            shape=tuple(int(n) for n in line["shape"]),
            source=_text_of(line["from"]),
            type=_text_of(line["type"]),
            options=dict(line.get("options", {})),
            wanted=_text_of(line["fallback_from"]) if "fallback_from" in line else None,
        )
        name = _text_of(line["name"])
        names = [name]
        if "layers" in line:
            layers = islice(read_layer_ranges(_text_of(line["layers"])), _MAX_TENSORS + 1)
            names = [name.replace("blk.*.", f"blk.{n}.", 1) for n in layers]
        for one in names:
            if one in tensors:
                raise ValueError(f"tensor {one!r} is there twice")
            tensors[one] = locked
        if len(tensors) > _MAX_TENSORS:
            raise ValueError(f"more than {_MAX_TENSORS:,} tensors")
    return tensors


def _text_of(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.60} is no text")
    return value


def _table(name: str, values: Mapping[str, Any]) -> Iterator[str]:
    yield f"\n[{name}]"
    for key, value in values.items():
        yield f"{_key(key)} = {_value(value)}"


def _inline(values: Mapping[str, Any]) -> str:
    return "{" + ", ".join(f"{_key(key)} = {_value(value)}" for key, value in values.items()) + "}"


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _quote(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, Mapping):
        return _inline(value)
    return _quote(str(value))


def _quote(text: str) -> str:
    """The text as a basic string of TOML, with escapes for what isn't printable."""
    return '"' + "".join(map(_escape, text)) + '"'


def _escape(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    if char.isprintable():
        return char
    return f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}"


def _read(ref: str, limit: int) -> bytes:
    if is_revision(ref):
        return read_revision(ref, limit)
    if not os.path.isfile(ref):  # noqa: PTH113  # Path.is_file raises for odd texts
        raise OSError("there is no such file")
    with Path(ref).open("rb") as stream:
        return stream.read(limit)
