"""Files go to all kinds of stores, and appear there at the end: whatever closing a file does there."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.store_kinds import KINDS, Stored, example_of_kind

from quantrecipe.errors import OutputError
from quantrecipe.model.objects import ObjectAddress
from quantrecipe.output.uploads import upload as module
from quantrecipe.output.uploads.sending import Sending, in_transaction
from quantrecipe.output.uploads.upload import Outgoing, require_writable, upload

MIB = 1 << 20
DATA = bytes(range(256)) * (18 * MIB // 256) + b"the rest"


@pytest.fixture(params=KINDS)
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def stored(scheme: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Stored]:
    with example_of_kind(scheme, monkeypatch, tmp_path) as found:
        yield found


def outgoing(url: str, data: bytes = DATA, content: Callable[[], Iterator[bytes]] | None = None) -> Outgoing:
    def pieces() -> Iterator[bytes]:
        for start in range(0, len(data), 3 * MIB + 17):
            yield data[start : start + 3 * MIB + 17]

    return Outgoing(address=ObjectAddress.parse(url), nbytes=len(data), content=content or pieces)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("data", [DATA, DATA[: 16 * MIB], DATA[:100]], ids=["rest", "even", "small"])
def test_what_is_there_is_what_was_sent(data: bytes, scheme: str, stored: Stored) -> None:
    require_writable([ObjectAddress.parse(f"{scheme}://store/made/out.gguf")], force=False)
    assert stored.made() == {}
    (sent,) = upload([outgoing(f"{scheme}://store/made/out.gguf", data)])
    assert stored.made() == {"store/made/out.gguf": sha256(data)}
    if scheme != "az":  # blocks that were given up have no name, and Azure throws them away
        assert list(stored.unnamed) == []
    # Once: a file that is committed and then closed isn't sent a second time.
    assert stored.named.count("store/made/out.gguf") == (0 if scheme == "hdfs" else 1)
    assert sent.compared == ("the store's MD5" if scheme == "gs" else "reading it back")


def test_shards_get_their_names_together(scheme: str, stored: Stored) -> None:
    def broken() -> Iterator[bytes]:
        yield DATA[: 9 * MIB]
        raise OutputError("the disk is gone", "look at it")

    urls = [f"{scheme}://store/made/out-{number}.gguf" for number in range(3)]
    with pytest.raises(OutputError, match="the disk is gone"):
        upload([*(outgoing(url, DATA[: 7 * MIB]) for url in urls[:2]), outgoing(urls[2], content=broken)])
    assert stored.made() == {}
    upload([outgoing(url, DATA[: 7 * MIB]) for url in urls])
    assert list(stored.made().values()) == [sha256(DATA[: 7 * MIB])] * 3
    assert not stored.crossed


def test_what_is_there_stays_unless_it_is_forced(scheme: str, stored: Stored) -> None:
    url = f"{scheme}://store/made/out.gguf"
    stored.put("store/made/out.gguf", b"precious")
    tries: list[Callable[[], object]] = [lambda: require_writable([ObjectAddress.parse(url)], force=False)]
    if scheme != "hdfs":  # opening a file there empties it
        tries.append(lambda: upload([outgoing(url)]))
    for refused in tries:
        with pytest.raises(OutputError, match=r"/store/made/out.gguf exists; say --force"):
            refused()
        assert stored.made() == {"store/made/out.gguf": sha256(b"precious")}
    upload([outgoing(url)], force=True)
    assert stored.made() == {"store/made/out.gguf": sha256(DATA)}


@pytest.mark.parametrize(
    "scheme", [it for it in KINDS if it != "hdfs"], indirect=True
)  # which shows half of ours
def test_what_somebody_else_has_put_there_meanwhile_stays(scheme: str, stored: Stored) -> None:
    def meanwhile() -> Iterator[bytes]:
        yield DATA
        stored.put("store/made/out.gguf", b"precious")

    with pytest.raises(OutputError, match=r"out.gguf exists; say --force"):
        upload([outgoing(f"{scheme}://store/made/out.gguf", content=meanwhile)])


def test_keys_that_may_not_write_are_told_before_the_work(scheme: str, stored: Stored) -> None:
    stored.forbidden = {"write"}
    with pytest.raises(OutputError, match="check the keys of this machine: they have to allow writing there"):
        require_writable([ObjectAddress.parse(f"{scheme}://store/made/out.gguf")], force=False)
    assert stored.made() == {}


def test_who_may_write_and_not_read_says_force(scheme: str, stored: Stored) -> None:
    stored.forbidden = {"read"}
    with pytest.raises(OutputError, match="they have to allow writing there, and listing or --force"):
        upload([outgoing(f"{scheme}://store/made/out.gguf")])
    (sent,) = upload([outgoing(f"{scheme}://store/made/out.gguf")], force=True)
    assert sent.compared == ""
    assert stored.made() == {"store/made/out.gguf": sha256(DATA)}


@pytest.mark.parametrize("scheme", ["az", "webdav"], indirect=True)  # where closing a file gives it its name
def test_a_name_that_can_t_be_given_leaves_nothing(
    scheme: str, stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last request fails, and the file may be there in spite of that."""
    put = Stored.put

    def late(self: Stored, path: str, data: bytes) -> None:
        put(self, path, data)
        raise TimeoutError("no answer")

    monkeypatch.setattr(Stored, "put", late)
    with pytest.raises(OutputError, match="no answer"):
        upload([outgoing(f"{scheme}://store/made/out.gguf")])
    assert stored.made() == {}


@pytest.mark.parametrize("scheme", ["sftp"], indirect=True)
def test_a_folder_for_temporary_files_that_somebody_has_named_is_kept(
    stored: Stored, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = ObjectAddress.parse("sftp://store/made/out.gguf")
    assert in_transaction(address).temppath == "store/made"
    from fsspec.config import conf

    monkeypatch.setitem(conf, "sftp", {"temppath": "/scratch"})
    assert in_transaction(address).temppath == "/scratch"


def test_half_of_a_file_that_was_given_up_isn_t_sent_later(scheme: str, stored: Stored) -> None:
    """By Python, when it throws the file away."""
    sending = Sending(
        outgoing(f"{scheme}://store/made/out.gguf"),
        in_transaction(ObjectAddress.parse(f"{scheme}://store/made/x")),
    )
    stop = threading.Event()
    stop.set()
    sending.send(stop)
    sending.give_up()
    del sending
    assert stored.made() == {}


def test_threads_share_no_connection(scheme: str, stored: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only file systems that are made for it get several files at a time."""
    widths: list[int] = []

    class Counted(ThreadPoolExecutor):
        def __init__(self, width: int, name: str) -> None:
            widths.append(width)
            super().__init__(width, name)

    monkeypatch.setattr(module, "ThreadPoolExecutor", Counted)
    upload([outgoing(f"{scheme}://store/made/{number}.gguf", b"small") for number in range(3)])
    assert widths == [4 if scheme in ("az", "gs") else 1]
