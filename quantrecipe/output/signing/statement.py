"""Statement: what a signature says of which files, read without trust, and how files differ from it.

A signature is a Sigstore bundle, in JSON, around a statement of in-toto:

    {"subject": […], "predicate": {"serialization": {"method": "files", "hash_type": "sha256", …},
     "resources": [{"name": "model.gguf", "algorithm": "sha256", "digest": "…"}, …]}}

By the method "shards", resources are stretches of files: "model.gguf:0:1000000000". The only file that was signed is
called ".".
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from quantrecipe.errors import Problem, SignatureError, abridged
from quantrecipe.output.signing.signed_files import WHOLE, shards_of, within
from quantrecipe.typed import json_object

__all__ = ["Statement", "compare", "expected_files", "read_statement"]

_ALGORITHMS = ("sha256", "blake3")  # the library's name of its third isn't the one that it writes
_LARGEST = 1 << 26  # bytes of a signature: that of ten thousand files has one or two million


@dataclass(frozen=True, kw_only=True, slots=True)
class Statement:
    """What the statement in a signature says, which is to be believed once the signature is checked.

    digests: by the name of each resource; files: the names of their files
    ignored: names of files and folders that were left out
    """

    method: str
    algorithm: str
    shard_size: int
    digests: Mapping[str, str]
    files: tuple[str, ...]
    ignored: tuple[str, ...] = ()


def read_statement(signature: Path) -> Statement:
    """Read a signature's statement. SignatureError where it is none."""
    try:
        with signature.open("rb") as file:
            raw = file.read(_LARGEST + 1)
    except FileNotFoundError as error:
        raise SignatureError(
            "there is no such signature", "name it with --signature", file=signature
        ) from error
    except OSError as error:
        raise SignatureError(f"can't be read: {error.strerror or error}", file=signature) from error
    try:
        if len(raw) > _LARGEST:
            raise ValueError(f"has more than {_LARGEST >> 20} MiB")
        statement = json_object(base64.b64decode(json_object(raw)["dsseEnvelope"]["payload"], validate=True))
        predicate = statement["predicate"]
        how, resources = predicate["serialization"], predicate["resources"]
        digests = {_text(it["name"]): _text(it["digest"]) for it in resources}
        method = _text(how["method"])
        if method not in ("files", "shards") or not digests:
            raise ValueError(f"is of {len(digests)} files, by the method {method!r:.40}")
        algorithm, shard_size = _text(how["hash_type"]), int(how.get("shard_size", 1))
        if algorithm not in _ALGORITHMS or not 1 <= shard_size < 1 << 63:
            raise ValueError(f"its hashes are {algorithm!r:.40} of {shard_size:,} bytes each")
        names = digests if method == "files" else (name.rsplit(":", 2)[0] for name in digests)
        files = tuple(dict.fromkeys(names))
        for name in files:
            _check_name(name)
        return Statement(
            method=method,
            algorithm=algorithm,
            shard_size=shard_size,
            digests=digests,
            files=files,
            ignored=tuple(map(_text, how.get("ignore_paths", ()))),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        said = f"{error} is missing" if isinstance(error, KeyError) else str(error)[:200]
        what = f"is no signature of OpenSSF model signing: {said}"
        raise SignatureError(what, "`quantrecipe sign` makes one", file=signature) from error


def compare(found: Mapping[str, str], expected: Statement, root: Path, signature: Path) -> None:
    """SignatureError that names each file that isn't as it was signed."""

    def place(resource: str) -> Path:
        name = resource if expected.method == "files" else resource.rsplit(":", 2)[0]
        return root if name == WHOLE else root / name

    changed = [
        place(name) for name in expected.digests if name in found and found[name] != expected.digests[name]
    ]
    missing = [place(name) for name in expected.digests if name not in found]
    extra = [place(name) for name in found if name not in expected.digests]
    by = f"it is not what {signature.name} was made of"
    problems = [
        Problem(what=f"has changed since it was signed: {by}", remedy="fetch it again", file=path)
        for path in dict.fromkeys(changed)
    ]
    problems += [
        Problem(what=f"is missing: {by}", remedy="fetch it again", file=path)
        for path in dict.fromkeys(missing)
        if path not in changed
    ]
    problems += [
        Problem(
            what=f"wasn't there when {root} was signed",
            remedy="remove it, or verify the model's file alone",
            file=path,
        )
        for path in dict.fromkeys(extra)
        if path not in changed
    ]
    if problems:
        raise SignatureError(abridged(problems))


def expected_files(path: Path, expected: Statement, signature: Path) -> tuple[Path, list[Path]]:
    """The root that names count from, and the files to be hashed: those that are there."""
    if path.is_dir():
        if expected.files == (WHOLE,):
            what = "is the signature of a single file, not of a folder"
            raise SignatureError(what, f"give the file: {path}/…", file=signature)
        return path, within(path, [signature, *(path / name for name in expected.ignored)])
    if not path.exists():
        raise SignatureError("there is no such file or folder", "check the path", file=path)
    if expected.files == (WHOLE,):
        return path, [path]
    shards = shards_of(path)
    root = path.parent
    if strangers := [it for it in shards if it.name not in expected.files]:
        which = f"its files are {', '.join(expected.files[:3])}{' …' if len(expected.files) > 3 else ''}"
        what = f"is the signature of something else: {strangers[0].name} isn't in it, {which}"
        raise SignatureError(what, "name the signature of this file with --signature", file=signature)
    return root, [root / name for name in expected.files if (root / name).is_file()]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.60} is no text")
    return value


def _check_name(name: str) -> None:
    """ValueError for a name that leads out of the folder."""
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts or "\\" in name or ":" in name or not name.isprintable():
        raise ValueError(f"it names the file {name!r:.80}")
