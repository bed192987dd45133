"""Files in an object store are there when they are complete, and are what was sent; or they aren't there at all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.elsewhere import example_in_memory, example_in_store
from support.object_server import Asked, ObjectServer

from quantrecipe.errors import OutputError
from quantrecipe.model.objects import ObjectAddress
from quantrecipe.output.uploads import upload as module
from quantrecipe.output.uploads.upload import Outgoing, require_writable, upload

MIB = 1 << 20
DATA = bytes(range(256)) * (18 * MIB // 256) + b"the rest"
OUT = "bucket/made/out.gguf"
store = pytest.fixture(example_in_store)
memory = pytest.fixture(example_in_memory)


def outgoing(url: str, data: bytes = DATA, content: Callable[[], Iterator[bytes]] | None = None) -> Outgoing:
    def pieces() -> Iterator[bytes]:
        for start in range(0, len(data), 3 * MIB + 17):
            yield data[start : start + 3 * MIB + 17]

    return Outgoing(address=ObjectAddress.parse(url), nbytes=len(data), content=content or pieces)


@pytest.mark.parametrize("data", [DATA, DATA[: 16 * MIB], DATA[:100]], ids=["rest", "even", "small"])
def test_what_is_there_is_what_was_sent(data: bytes, store: ObjectServer) -> None:
    told: list[int] = []
    (sent,) = upload([outgoing(f"s3://{OUT}", data)], advance=told.append)
    assert store.objects[OUT].data == data
    assert store.uploads == {}
    assert sum(told) == len(data) == sent.nbytes
    assert sent.compared == "the store's MD5 of its parts"
    # By its hash: nothing was read back.
    assert not [it for it in store.asked if it.method == "GET" and it.path == OUT]


def test_a_store_without_hashes_is_read_back(memory: Any) -> None:
    (sent,) = upload([outgoing("memory://made/out.gguf")])
    assert memory.cat_file("/made/out.gguf") == DATA
    assert sent.compared == "reading it back"


def test_a_hash_that_is_another_is_no_proof(store: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects that are encrypted there have ETags that aren't their MD5."""
    put = store.put
    monkeypatch.setattr(store, "put", lambda path, data, etag="": put(path, data, "0" * 32))
    (sent,) = upload([outgoing(f"s3://{OUT}")])
    assert sent.compared == "reading it back"


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data[:-1] + b"\0"])
def test_other_bytes_are_removed(
    change: Callable[[bytes], bytes], store: ObjectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = store.put
    monkeypatch.setattr(store, "put", lambda path, data, etag="": put(path, change(data), "0" * 32))
    with pytest.raises(OutputError, match=r"other bytes came to be in s3://bucket/made/out.gguf than were"):
        upload([outgoing(f"s3://{OUT}")])
    assert OUT not in store.objects


def test_who_may_write_and_not_read_is_told(store: ObjectServer) -> None:
    store.trouble = lambda asked: "AccessDenied" if asked.method == "HEAD" else None
    with pytest.raises(OutputError, match="they have to allow writing there, and listing or --force"):
        upload([outgoing(f"s3://{OUT}")])
    (sent,) = upload([outgoing(f"s3://{OUT}")], force=True)
    assert sent.compared == ""
    assert store.objects[OUT].data == DATA


def test_parts_fail_and_are_sent_again(store: ObjectServer) -> None:
    seen: set[str] = set()

    def trouble(asked: Asked) -> str | None:
        number = asked.query.get("partNumber", "")
        if not number or number in seen:
            return None
        seen.add(number)
        return "SlowDown"

    store.trouble = trouble
    upload([outgoing(f"s3://{OUT}")])
    assert store.objects[OUT].data == DATA


def nothing_is_there(store: ObjectServer) -> bool:
    return store.uploads == {} and not [it for it in store.objects if it.startswith("bucket/made")]


@pytest.mark.parametrize("part", ["1", "3"])
def test_a_part_that_fails_for_good_leaves_nothing(part: str, store: ObjectServer) -> None:
    store.trouble = lambda asked: "AccessDenied" if asked.query.get("partNumber") == part else None
    with pytest.raises(OutputError, match=r"s3://bucket/made/out.gguf can't be written: .*check the keys"):
        upload([outgoing(f"s3://{OUT}"), outgoing("s3://bucket/made/small.gguf", b"small")])
    assert nothing_is_there(store)


def test_content_that_ends_early_or_can_t_be_read_leaves_nothing(store: ObjectServer) -> None:
    with pytest.raises(OutputError, match=r"9,437,184 bytes were there to be sent .*, and not 18,874,376"):
        upload([outgoing(f"s3://{OUT}", content=lambda: iter((DATA[: 9 * MIB],)))])

    def broken() -> Iterator[bytes]:
        yield DATA[: 9 * MIB]
        raise OutputError("the disk is gone", "look at it")

    with pytest.raises(OutputError, match="the disk is gone"):
        upload([outgoing("s3://bucket/made/other.gguf"), outgoing(f"s3://{OUT}", content=broken)])
    assert nothing_is_there(store)


def test_an_interruption_leaves_nothing(store: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while parts are on their way: the others aren't sent."""
    begun = threading.Event()
    store.trouble = lambda asked: begun.set() if asked.query.get("partNumber") == "1" else None

    def interrupted(*_: object, **__: object) -> None:
        assert begun.wait(30)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        upload([outgoing(f"s3://{OUT}")])
    assert nothing_is_there(store)


def test_no_file_has_its_name_before_all_are_sent(store: ObjectServer) -> None:
    names: list[set[str]] = []

    def trouble(asked: Asked) -> None:
        if asked.method == "PUT":
            names.append({it for it in store.objects if it.startswith("bucket/made")})

    store.trouble = trouble
    upload([outgoing(f"s3://{OUT}"), outgoing("s3://bucket/made/small.gguf", b"small")])
    assert names
    assert not any(names)


def test_a_name_that_can_t_be_given_is_told_with_those_that_were(store: ObjectServer) -> None:
    def trouble(asked: Asked) -> str | None:
        completes = asked.method == "POST" and "uploadId" in asked.query
        return "AccessDenied" if completes and asked.path == OUT else None

    store.trouble = trouble
    with pytest.raises(
        OutputError, match=r"out.gguf can't be written.*done before that: s3://bucket/made/first"
    ):
        upload([outgoing("s3://bucket/made/first.gguf", b"first"), outgoing(f"s3://{OUT}")])
    assert OUT not in store.objects
    assert store.uploads == {}  # its parts are given up


def test_what_is_there_stays_unless_it_is_forced(store: ObjectServer) -> None:
    store.put(OUT, b"precious")
    for refused in (
        lambda: upload([outgoing(f"s3://{OUT}")]),
        lambda: require_writable([ObjectAddress.parse(f"s3://{OUT}")], force=False),
    ):
        with pytest.raises(OutputError, match=r"s3://bucket/made/out.gguf exists; say --force"):
            refused()
    assert store.objects[OUT].data == b"precious"
    store.trouble = lambda asked: "AccessDenied" if asked.query.get("partNumber") == "2" else None
    with pytest.raises(OutputError, match="can't be written"):
        upload([outgoing(f"s3://{OUT}")], force=True)
    assert store.objects[OUT].data == b"precious"
    store.trouble = lambda asked: None
    upload([outgoing(f"s3://{OUT}")], force=True)
    assert store.objects[OUT].data == DATA


def test_a_place_is_tried_before_the_work_and_nothing_stays_of_that(store: ObjectServer) -> None:
    require_writable([ObjectAddress.parse(f"s3://{OUT}")], force=False)
    assert [it.method for it in store.asked if "partNumber" in it.query] == ["PUT"]
    assert nothing_is_there(store)
    store.trouble = lambda asked: "AccessDenied" if asked.method in ("PUT", "POST") else None
    with pytest.raises(OutputError, match="s3://bucket/made can't be written: PermissionError"):
        require_writable([ObjectAddress.parse(f"s3://{OUT}")], force=False)
    with pytest.raises(OutputError, match=r"s3://nowhere can't be written: .*make the bucket or the folder"):
        require_writable([ObjectAddress.parse("s3://nowhere/out.gguf")], force=False)


def test_a_file_system_where_half_a_file_shows_is_cleaned_up(
    memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that knows nothing of transactions."""
    monkeypatch.setattr(type(memory), "start_transaction", lambda self: None)

    def broken() -> Iterator[bytes]:
        yield DATA[: 9 * MIB]
        assert memory.exists("/made/out.gguf")
        raise OutputError("the disk is gone", "look at it")

    with pytest.raises(OutputError, match="the disk is gone"):
        upload([outgoing("memory://made/out.gguf", content=broken)])
    assert not memory.exists("/made/out.gguf")
