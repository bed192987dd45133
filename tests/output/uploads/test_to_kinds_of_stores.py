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
from quantrecipe.output.uploads import sending as sending_module
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
    assert stored.made() == {"store/made/out.gguf": sha256(b"precious")}


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


def nothing_is_there(stored: Stored) -> bool:
    """Azure keeps blocks without a name for a week, and there is no request that removes them."""
    return stored.made() == {} and [it for it in stored.unnamed if it != AZURE] == []


AZURE = "store/made/out.gguf"
"""What blocks without a name belong to there. Elsewhere, what has no name yet lies under another one, if under any."""


def at(what: str, number: int, act: Callable[[], object]) -> Callable[[str], None]:
    """Trouble at the time with this number that this is asked, and at no other."""
    asked: list[str] = []

    def trouble(it: str) -> None:
        asked.append(it)
        if it == what and asked.count(what) == number:
            act()

    return trouble


def breaks() -> None:
    raise ConnectionResetError("the server is gone")


def interrupts() -> None:
    raise KeyboardInterrupt


BLOCKS = {"webdav": 1}
"""The number of the last of two blocks and a rest that is whole, unless it is 2: webdav4 sends all at once."""


def test_a_connection_that_ends_in_the_middle_leaves_nothing(scheme: str, stored: Stored) -> None:
    url = f"{scheme}://store/made/out.gguf"
    stored.trouble = at("block", BLOCKS.get(scheme, 2), breaks)
    with pytest.raises(
        OutputError, match=r"out.gguf can't be written: .*the server is gone.*; check the conn"
    ):
        upload([outgoing(url)])
    assert nothing_is_there(stored)
    upload([outgoing(url)])
    assert stored.made() == {"store/made/out.gguf": sha256(DATA)}


def test_ctrl_c_in_the_middle_leaves_nothing(scheme: str, stored: Stored) -> None:
    """Where it arrives while a thread sends blocks, test_upload.py has it."""
    stored.trouble = at("block", BLOCKS.get(scheme, 2), interrupts)
    with pytest.raises(KeyboardInterrupt):
        upload([outgoing(f"{scheme}://store/made/out.gguf")])
    assert nothing_is_there(stored)


def test_a_large_request_is_sent_where_ctrl_c_arrives(scheme: str, stored: Stored) -> None:
    """A thread can't be interrupted, and Python waits for it."""
    threads: list[threading.Thread] = []
    stored.trouble = lambda what: threads.append(threading.current_thread())
    upload([outgoing(f"{scheme}://store/made/out.gguf")])
    assert threads[-1] is threading.main_thread()
    if scheme == "webdav":
        assert set(threads) == {threading.main_thread()}


@pytest.mark.parametrize("error", [breaks, interrupts], ids=["breaks", "interrupts"])
def test_a_name_that_can_t_be_given_leaves_nothing(
    error: Callable[[], None], scheme: str, stored: Stored
) -> None:
    """The last request fails."""
    url = f"{scheme}://store/made/out.gguf"
    stored.trouble = at("name", 1, error)
    with pytest.raises((OutputError, KeyboardInterrupt)) as raised:
        upload([outgoing(url)])
    assert isinstance(raised.value, KeyboardInterrupt) or "check the connection" in str(raised.value)
    assert nothing_is_there(stored)
    upload([outgoing(url)])
    assert stored.made() == {"store/made/out.gguf": sha256(DATA)}


@pytest.mark.parametrize("there", [b"", b"older"], ids=["nothing", "an older one"])
@pytest.mark.parametrize("scheme", [it for it in KINDS if it != "hdfs"], indirect=True)  # it was shown before
def test_a_name_whose_answer_is_lost_is_given(there: bytes, scheme: str, stored: Stored) -> None:
    """The last request was done, and its answer didn't come."""
    if there:
        stored.put("store/made/out.gguf", there)
    stored.trouble = at("named", 1, breaks)
    (sent,) = upload([outgoing(f"{scheme}://store/made/out.gguf")], force=bool(there))
    assert stored.made() == {"store/made/out.gguf": sha256(DATA)}
    assert sent.compared == ("the store's MD5" if scheme == "gs" else "reading it back")
    asked = [it for it in stored.asked if it[0] == "store/made/out.gguf"]
    assert len(asked) == len(set(asked))  # it is compared once


@pytest.mark.parametrize("scheme", [it for it in KINDS if it != "hdfs"], indirect=True)
def test_what_somebody_else_has_put_there_in_the_end_stays(scheme: str, stored: Stored) -> None:
    def other() -> None:
        stored.put("store/made/out.gguf", b"precious")
        breaks()

    stored.trouble = at("name", 1, other)
    with pytest.raises(OutputError, match="the server is gone"):
        upload([outgoing(f"{scheme}://store/made/out.gguf")])
    assert stored.made() == {"store/made/out.gguf": sha256(b"precious")}


@pytest.mark.parametrize("scheme", ["az"], indirect=True)
def test_a_name_whose_answer_was_lost_stays_when_another_can_t_be_given(
    scheme: str, stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending_module, "_COMPLETE_WHEN_SHOWN", ())  # what isn't settled would be removed
    lost, refused = at("named", 1, breaks), at("name", 2, breaks)
    stored.trouble = lambda what: (lost(what), refused(what))
    with pytest.raises(OutputError, match=f"2.gguf can't be written.*done before that: {scheme}://.*1.gguf"):
        upload([outgoing(f"{scheme}://store/made/{number}.gguf", DATA[:100]) for number in (1, 2)])
    assert stored.made() == {"store/made/1.gguf": sha256(DATA[:100])}


@pytest.mark.parametrize("scheme", [it for it in KINDS if it != "gs"], indirect=True)  # which says its MD5
def test_a_file_that_can_t_be_read_back_stays_and_is_told(scheme: str, stored: Stored) -> None:
    """It is whole, and was hours on its way."""
    stored.trouble = at("read", 2, breaks)
    said = "is there, and couldn't be compared with what was sent: ConnectionResetError: .*--force sends it again"
    with pytest.raises(OutputError, match=said):
        upload([outgoing(f"{scheme}://store/made/out.gguf")])
    assert stored.made() == {"store/made/out.gguf": sha256(DATA)}


@pytest.mark.parametrize("scheme", ["az"], indirect=True)
def test_half_of_a_file_that_an_unknown_store_shows_is_removed(
    scheme: str, stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a file system that nobody here knows, and that gives a file its name when it is closed."""
    monkeypatch.setattr(sending_module, "_COMPLETE_WHEN_SHOWN", ())

    def half() -> None:
        stored.put("store/made/out.gguf", DATA[: 9 * MIB])
        breaks()

    stored.trouble = at("name", 1, half)
    with pytest.raises(OutputError, match="the server is gone"):
        upload([outgoing(f"{scheme}://store/made/out.gguf")])
    assert stored.made() == {}


@pytest.mark.parametrize("scheme", ["sftp"], indirect=True)
def test_connections_that_nobody_used_for_long_may_be_gone(scheme: str, stored: Stored) -> None:
    """An upload takes hours, and what fsspec keeps is a connection over which nothing came meanwhile."""

    def ends() -> None:
        for it in stored.systems[:-1]:  # the last one is that over which it is sent
            it.dead = True

    address = ObjectAddress.parse(f"{scheme}://store/made/out.gguf")
    assert address.opened()[0] is address.opened()[0]
    stored.trouble = at("block", 2, ends)
    upload([outgoing(address.url)])
    assert stored.made() == {"store/made/out.gguf": sha256(DATA)}


def test_a_store_that_refuses_connections_is_told_before_the_work(
    scheme: str, stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: object, path: str, **_: object) -> None:
        raise ConnectionRefusedError("Connection refused")

    address = ObjectAddress.parse(f"{scheme}://store/made/out.gguf")
    monkeypatch.setattr(type(address.opened()[0]), "info", refused)
    with pytest.raises(OutputError, match=r"Connection refused; check the connection, and run the same comm"):
        require_writable([address], force=False)
    assert stored.made() == {}


@pytest.mark.parametrize("scheme", ["webdav"], indirect=True)
def test_a_server_that_moves_nothing_is_told_before_the_work(scheme: str, stored: Stored) -> None:
    """Some are reached under another name than they believe, and refuse to move a file to "another server"."""
    stored.trouble = at("name", 1, breaks)
    with pytest.raises(OutputError, match="webdav://store/made can't be written: ConnectionResetError"):
        require_writable([ObjectAddress.parse("webdav://store/made/out.gguf")], force=False)
    assert stored.made() == {}
    stored.forbidden = {"move"}
    with pytest.raises(OutputError, match="check the keys of this machine"):
        require_writable([ObjectAddress.parse("webdav://store/made/out.gguf")], force=False)
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


@pytest.mark.parametrize("scheme", ["sftp"], indirect=True)
def test_what_is_given_up_is_closed_and_removed_over_the_same_connection(scheme: str, stored: Stored) -> None:
    """Servers on Windows remove nothing that is open."""
    address = ObjectAddress.parse(f"{scheme}://store/made/out.gguf")
    sending = Sending(outgoing(address.url), in_transaction(address))
    systems = len(stored.systems)
    sending.give_up()
    assert nothing_is_there(stored)
    assert len(stored.systems) == systems


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
