"""Is the header what was written? Every byte belongs to a value, to an entry, or to padding, and each is checked."""

from __future__ import annotations

from collections.abc import Iterator

from quantrecipe.errors import ModelError
from quantrecipe.gguf.header import GGUFHeader
from quantrecipe.gguf.write_header import encode_header
from quantrecipe.output.verify.produced import Produced
from quantrecipe.output.verify.verification import Check, Finding
from quantrecipe.plan.header_hashes import HEADER_HASHES, header_hashes
from quantrecipe.plan.metadata import OURS, PROVENANCE
from quantrecipe.remote_files import remote_file

__all__ = ["check_header"]


def check_header(produced: Produced) -> Check:
    """Names, values, types, shapes and offsets against their hashes; and what stands between them."""
    if not produced.has_provenance:
        return Check.skipped("header", "it records no hashes of its header")
    findings = [finding for shard in produced.shards for finding in _shard(shard)]
    recorded = all(HEADER_HASHES in shard.metadata for shard in produced.shards)
    if not recorded and not findings:
        return Check.skipped("header", "it was made by a version that didn't record hashes of the header")
    nbytes = sum(shard.data_start for shard in produced.shards)
    return Check.of("header", f"{nbytes:,} bytes of header", findings)


def _shard(header: GGUFHeader) -> Iterator[Finding]:
    yield from _strangers(header)
    yield from _hashes(header)
    yield from _between(header)


def _strangers(header: GGUFHeader) -> Iterator[Finding]:
    """A key that nobody writes is one of ours whose name is damaged."""
    for key in header.metadata:
        if key not in PROVENANCE and (key.startswith(OURS) or any(_nearly(key, ours) for ours in PROVENANCE)):
            yield Finding(what=f"the key {key!r} isn't one that quantrecipe writes", file=header.path)


def _nearly(key: str, other: str) -> bool:
    """True for names of the same length of which at most two letters differ, as damage makes them."""
    return len(key) == len(other) and sum(a != b for a, b in zip(key, other, strict=True)) <= 2


def _hashes(header: GGUFHeader) -> Iterator[Finding]:
    value = header.metadata.get(HEADER_HASHES)
    if value is None:
        return
    recorded = value.decode() if isinstance(value.decode(), list) else []
    found = header_hashes(header.metadata, header.tensors)
    if len(recorded) != len(found):
        what = (
            f"the header has {len(found)} values and tensors, and {HEADER_HASHES} {len(recorded)} hashes: another"
            " program (gguf-split, an editor of metadata) has written it anew, or it is damaged"
        )
        yield Finding(what=what, file=header.path)
        return
    keys = [key for key in header.metadata if key != HEADER_HASHES]
    known = set(recorded)
    moved = [place for place, now in enumerate(found) if now != recorded[place] and now in known]
    if len(moved) > 1:  # damage moves nothing
        what = (
            f"another program has written the header anew: {len(moved)} of its {len(found)} values and tensors stand "
            "at other places than they were written to"
        )
        yield Finding(what=what, file=header.path)
    for place, (before, now) in enumerate(zip(recorded, found, strict=True)):
        if before == now or (len(moved) > 1 and now in known):
            continue
        if place < len(keys):
            what = f"the metadata {keys[place]!r}, or its hash, isn't what was written"
            yield Finding(what=what, file=header.path)
        else:
            name = header.tensors[place - len(keys)].name
            what = "its name, shape, type or offset in the header, or their hash, isn't what was written"
            yield Finding(what=what, tensor=name, file=header.path)


def _between(header: GGUFHeader) -> Iterator[Finding]:
    """Bytes that belong to no value: the version, and the padding."""
    written = encode_header(header.metadata, header.tensors, header.alignment)
    found = _read(header, len(written))
    if found != written:
        place = next(n for n, (a, b) in enumerate(zip(found, written, strict=False)) if a != b)
        what = f"byte {place:,} of the header is {found[place]:#04x} (expected: {written[place]:#04x})"
        yield Finding(what=what, file=header.path, offset=place)


def _read(header: GGUFHeader, nbytes: int) -> bytes:
    if (remote := remote_file(header.path)) is not None:
        return remote.head(0, nbytes)
    try:
        with header.path.open("rb") as file:
            data = file.read(nbytes)
    except OSError as error:
        raise ModelError(f"can't be read: {error.strerror or error}", file=header.path) from error
    if len(data) != nbytes:
        raise ModelError("has become shorter while it was read", file=header.path)
    return data
