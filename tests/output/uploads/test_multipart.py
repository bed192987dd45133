"""Parts come in any order, and are a file when all of them are there."""

from __future__ import annotations

import pickle

import pytest
from support import object_server
from support.elsewhere import example_in_store
from support.object_server import ObjectServer

from quantrecipe.errors import OutputError
from quantrecipe.model.objects import ObjectAddress
from quantrecipe.output.uploads.multipart import Multipart, SentPart, takes_parts

OUT = "bucket/made/out.gguf"
ADDRESS = ObjectAddress.parse(f"s3://{OUT}")
PARTS = [bytes([number]) * 1000 for number in range(7)] + [b"the rest"]
store = pytest.fixture(example_in_store)


@pytest.fixture(autouse=True)
def small_parts(store: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_server, "LEAST_PART", 0)


def sent(upload: Multipart) -> list[SentPart]:
    found = [upload.send(number, PARTS[number]) for number in (3, 0, 7, 2, 1, 6, 5, 4)]
    return sorted(found, key=lambda it: it.number)


def test_parts_may_come_in_any_order_and_from_elsewhere(store: ObjectServer) -> None:
    upload = Multipart.begin(ADDRESS)
    parts = sent(pickle.loads(pickle.dumps(upload)))
    assert OUT not in store.objects
    upload.complete(parts)
    assert store.objects[OUT].data == b"".join(PARTS)
    assert upload.compared(parts) == "the store's MD5 of its parts"


@pytest.mark.parametrize("at_once", [1, 3, 1000])
def test_the_store_says_which_parts_it_has(at_once: int, store: ObjectServer) -> None:
    upload = Multipart.begin(ADDRESS)
    assert upload.listed() == {}
    store.parts_listed = at_once
    parts = sent(upload)
    assert upload.listed() == {it.number: (it.nbytes, it.etag) for it in parts}
    upload.give_up()
    assert upload.listed() is None
    assert store.uploads == {}
    upload.give_up()  # a second time is no error


def test_a_part_that_changes_on_its_way_is_refused(
    store: ObjectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = Multipart.begin(ADDRESS)
    body = object_server._Handler.body
    monkeypatch.setattr(object_server._Handler, "body", lambda self: body(self)[:-1])
    with pytest.raises(OutputError, match=r"s3://bucket/made/out.gguf can't be written: .*BadDigest"):
        upload.send(0, b"some bytes")


def test_an_answer_that_was_lost_is_no_error(store: ObjectServer) -> None:
    upload = Multipart.begin(ADDRESS)
    parts = sent(upload)
    upload.complete(parts)
    upload.complete(parts)
    store.put(OUT, b"another")
    with pytest.raises(OutputError, match=r"can't be written: the upload is gone"):
        upload.complete(parts)


def test_a_file_that_is_another_isn_t_the_same(store: ObjectServer) -> None:
    upload = Multipart.begin(ADDRESS)
    parts = sent(upload)
    upload.complete(parts)
    data = store.objects[OUT].data
    for other, said in ((data, "reading it back"), (data[:-1], ""), (data[:-1] + b"!", "")):
        store.put(OUT, other)
        assert upload.compared(parts) == said


def test_nothing_is_begun_where_nothing_may_be_written(store: ObjectServer) -> None:
    store.trouble = lambda asked: "AccessDenied"
    with pytest.raises(OutputError, match="check the keys of this machine"):
        Multipart.begin(ADDRESS)


def test_which_stores_take_them() -> None:
    schemes = {"s3": True, "s3a": True, "gs": False, "az": False, "sftp": False}
    assert {
        scheme: takes_parts(ObjectAddress.parse(f"{scheme}://bucket/out.gguf")) for scheme in schemes
    } == schemes
