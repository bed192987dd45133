"""Targets: what quantrecipe and others note beside models: matrices, locks, losses, journals, caches."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from unittest.mock import patch

import xxhash
from fuzz.answers import Target, answered, folder, text_of, written

from quantrecipe.calibration import self_written
from quantrecipe.calibration.gram.folder import read_gram
from quantrecipe.calibration.sums import DAMAGED, SumsFile
from quantrecipe.evaluate.reference import read_reference
from quantrecipe.importance.read_importance import read_importance
from quantrecipe.measure import journal as measuring
from quantrecipe.output import journal as writing
from quantrecipe.output.signing.statement import compare, read_statement
from quantrecipe.output.store.entry import read_facts
from quantrecipe.plan.review.lock_file import lock_text, parse_lock
from quantrecipe.sensitivity.file import read_sensitivity, write_sensitivity
from quantrecipe.speed import kept

__all__ = ["TARGETS"]

_KEY = {"fuzz": 1}


def imatrix(data: bytes) -> None:
    """An importance matrix, as GGUF or .dat."""
    with answered():
        found = read_importance(written("fuzz.imatrix", data))
        for name in found.entries:
            name.encode()


def lock(data: bytes) -> None:
    """A lock file; one that is read is written as a text that says the same."""
    with answered():
        found = parse_lock(text_of(data))
        assert parse_lock(lock_text(found)) == found, "the text of the lock says something else"


def sensitivity(data: bytes) -> None:
    """A sensitivity file; one that is read can be written."""
    with answered():
        write_sensitivity(read_sensitivity(written("fuzz.jsonl", data)), folder() / "again.jsonl")


def apply_journal(data: bytes) -> None:
    """The journal of apply. Its lines get the hash that they should have, unless it begins with a !."""
    if data[:1] == b"!":
        data = data[1:]
    else:
        lines = data.split(b"\n")
        data = b"".join(xxhash.xxh3_64_hexdigest(it).encode() + b" " + it + b"\n" for it in lines)
    path = written("fuzz.gguf.quantrecipe-journal", data)
    with answered():
        writing.Journal(path, _KEY, _other).close()


def _other(old: writing.Key, key: writing.Key) -> str:
    return f"{len(old)} {len(key)}"


def measure_journal(data: bytes) -> None:
    """The journal of sensitivity, and the evaluations of fit."""
    path = written("fuzz.measured", data)
    with answered(), measuring.Journal(path, _KEY):
        pass


def answers_journal(data: bytes) -> None:
    """The journal of texts that a model writes itself."""
    with answered(), self_written._Journal(written("fuzz.answers", data), _KEY):
        pass


def store_entry(data: bytes) -> None:
    """What a file of the store says of itself; its last line gets the hash that it should have."""
    head, _, text = data.rpartition(b"\n")
    footer = b"\n" + xxhash.xxh3_64_hexdigest(text).encode() + b" " + text + b"\n"
    with answered():
        facts = read_facts(written("fuzz.entry", head + footer))
        if facts is not None:
            hash(facts)


def speed(data: bytes) -> None:
    """What was measured of this machine's speed."""
    with answered(), patch.object(kept.folder, "speed_folder", lambda: _folder("speed")):
        (_folder("speed") / "fuzz.json").write_bytes(data)
        kept.kept_profiles()
        kept._read(_folder("speed") / "fuzz.json")


def grams(data: bytes) -> None:
    """The index of a folder of Gram matrices."""
    (_folder("grams/0123") / "index.json").write_bytes(data)
    with answered():
        read_gram(_folder("grams/0123"))


def reference(data: bytes) -> None:
    """A reference for eval."""
    with answered():
        read_reference(written("fuzz.reference", data))


def sums(data: bytes) -> None:
    """What a calibration has found so far."""
    found = None
    with answered():
        found = SumsFile.read(written("fuzz.npz", data))
    if found is not None:
        try:
            found.sums()
        except DAMAGED:
            return


def signature(data: bytes) -> None:
    """A signature; with { at its beginning, the statement in one."""
    if data[:1] == b"{":
        data = json.dumps({"dsseEnvelope": {"payload": base64.b64encode(data).decode()}}).encode()
    with answered():
        found = read_statement(written("fuzz.sig", data))
        compare(dict.fromkeys(found.digests, "00"), found, folder(), folder() / "fuzz.sig")


def _folder(name: str) -> Path:
    made = folder() / name
    made.mkdir(parents=True, exist_ok=True)
    return made


TARGETS: tuple[Target, ...] = (
    *(imatrix, lock, sensitivity, apply_journal, measure_journal, answers_journal),
    *(store_entry, speed, grams, reference, sums, signature),
)
