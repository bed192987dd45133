"""Workers send a file in parts, and it is that of one run; if something ends it, the same command goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import object_server
from support.elsewhere import example_in_store
from support.object_server import Asked, ObjectServer
from support.shared_work import KINDS, SMALL, Changing, plan_of_kind

from quantrecipe.api import Executor, Outcome
from quantrecipe.errors import ModelError, NonFiniteError, OutputError
from quantrecipe.executors.local import Processes, Threads
from quantrecipe.model.objects import ObjectAddress
from quantrecipe.output.apply import Result, apply_plan
from quantrecipe.output.progress import Silent
from quantrecipe.output.shares.units import cut
from quantrecipe.output.uploads import by_executor as module
from quantrecipe.output.uploads.by_executor import upload_by
from quantrecipe.output.uploads.upload import Sent
from quantrecipe.plan.plan import Plan
from quantrecipe.registry import load_registry

PART = 30_000
"""Bytes of a part: most tensors of these models have more, and small ones share some."""
REGISTRY = load_registry(plugins=False)
store = pytest.fixture(example_in_store)


@pytest.fixture(autouse=True)
def small_parts(store: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_server, "LEAST_PART", 0)
    monkeypatch.setattr(module, "block_bytes", lambda nbytes: PART)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "out.gguf.quantrecipe-upload"
    found.mkdir()
    return found


class Heard(Silent):
    """What was told."""

    def __init__(self) -> None:
        self.all: list[str] = []

    def resumed(self, part: Path, share: float) -> None:
        self.all.append(f"resumed {part.name} {share:.1f}")

    def started_over(self, part: Path, why: str) -> None:
        self.all.append(f"started over: {why}")

    def kept(self, part: Path, share: float) -> None:
        self.all.append(f"kept {part.name}")


def addresses(plan: Plan) -> list[ObjectAddress]:
    return [ObjectAddress.parse(f"s3://bucket/made/out-{number}.gguf") for number in range(len(plan.files))]


def uploaded(
    plan: Plan, folder: Path, executor: Executor | None = None, **more: Any
) -> tuple[Result, tuple[Sent, ...]]:
    more = {"registry": REGISTRY, "nbytes": SMALL} | more
    return upload_by(executor or Threads(), plan, addresses(plan), folder, **more)


def require_made(plan: Plan, store: ObjectServer, tmp_path: Path) -> None:
    """What is in the store is what one run makes, and nothing is left of how it came there."""
    peace = apply_plan(plan, tmp_path / "peace.gguf", registry=REGISTRY, force=True)
    for number, path in enumerate(peace.paths):
        assert store.objects[f"bucket/made/out-{number}.gguf"].data == path.read_bytes()
    assert store.uploads == {}
    assert list((tmp_path / "out.gguf.quantrecipe-upload").iterdir()) == []


def nothing_is_left(store: ObjectServer, folder: Path) -> bool:
    return (store.uploads, [it for it in store.objects if "/made/" in it], list(folder.iterdir())) == (
        {},
        [],
        [],
    )


def sent_parts(store: ObjectServer) -> list[str]:
    return [it.query["partNumber"] for it in store.asked if "partNumber" in it.query]


@pytest.mark.parametrize("kind", KINDS)
def test_the_file_is_that_of_one_run(kind: str, store: ObjectServer, folder: Path, tmp_path: Path) -> None:
    plan = plan_of_kind(kind, tmp_path, REGISTRY)
    result, sent = uploaded(plan, folder)
    peace = apply_plan(plan, tmp_path / "peace.gguf", registry=REGISTRY)
    require_made(plan, store, tmp_path)
    assert [it.nbytes for it in sent] == [path.stat().st_size for path in peace.paths]
    assert {it.compared for it in sent} == {"the store's MD5 of its parts"}
    assert (result.hashes, result.nonfinite, result.left) == (peace.hashes, peace.nonfinite, 0)
    # Each part once, by a worker or from here.
    assert len(sent_parts(store)) == sum(-(-file.nbytes // PART) for file in plan.files)


def test_workers_send_most_of_it(
    store: ObjectServer, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What returns to the command are the edges: here, of units of some parts each, less than half of all."""
    returned: list[int] = []
    add_unit = module.KeptParts.add_unit

    def noting(self: Any, done: Any) -> None:
        returned.append(done.edges.nbytes)
        add_unit(self, done)

    monkeypatch.setattr(module.KeptParts, "add_unit", noting)
    plan = plan_of_kind("dense", tmp_path, REGISTRY)
    uploaded(plan, folder, nbytes=10 * SMALL)
    assert 0 < sum(returned) < plan.nbytes / 2
    assert max(returned) < 2 * PART + 10_000
    require_made(plan, store, tmp_path)


class AtOnce:
    """A pool of threads that does what it gets at once, in this one."""

    def __init__(self, *_: object) -> None:
        pass

    def submit(self, do: Callable[[], object]) -> Future[object]:
        found = Future[object]()
        found.set_result(do())
        return found

    def shutdown(self, *, cancel_futures: bool) -> None:
        pass


def test_edges_lie_here_until_their_parts_are_sent(
    store: ObjectServer, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no longer: the room that they take doesn't grow with the file."""
    counts: list[int] = []

    def count(outcome: Outcome, number: int) -> Outcome:
        counts.append(len(list(folder.glob("*.edges"))))
        return outcome

    monkeypatch.setattr(module, "ThreadPoolExecutor", AtOnce)
    plan = plan_of_kind("dense", tmp_path, REGISTRY)
    uploaded(plan, folder, Changing(count))
    assert len(counts) == len(cut(plan, SMALL, most=1 << 62))
    assert max(counts) < len(counts) / 2
    require_made(plan, store, tmp_path)


@pytest.mark.slow  # starts processes
@pytest.mark.parametrize("kind", ["shards", "factors of experts"])
def test_processes_send_the_same(kind: str, store: ObjectServer, folder: Path, tmp_path: Path) -> None:
    plan = plan_of_kind(kind, tmp_path, REGISTRY)
    uploaded(plan, folder, Processes({"workers": 3}))
    require_made(plan, store, tmp_path)


def ending_after(count: int, error: BaseException) -> Changing:
    """Raises it when so many units are done."""

    def change(outcome: Outcome, number: int) -> Outcome:
        if number > count:
            raise error
        return outcome

    return Changing(change)


@pytest.mark.parametrize("kind", ["dense", "shards"])
@pytest.mark.parametrize("count", [1, 4, 7])
def test_the_same_command_goes_on(
    count: int, kind: str, store: ObjectServer, folder: Path, tmp_path: Path
) -> None:
    plan, heard = plan_of_kind(kind, tmp_path, REGISTRY), Heard()
    with pytest.raises(
        OutputError, match=r"% of the work is in the store, as parts without a name, which .*-upload"
    ):
        uploaded(plan, folder, ending_after(count, OutputError("the disk is gone")))
    assert not [it for it in store.objects if "/made/" in it]
    store.asked.clear()
    result, _ = uploaded(plan, folder, progress=heard, nbytes=None)
    require_made(plan, store, tmp_path)
    units = cut(plan, SMALL, most=1 << 62)
    assert heard.all[0].startswith("resumed out.gguf.quantrecipe-upload 0.")
    assert 0 < result.left < plan.size
    assert result.left >= sum(sorted(unit.size for unit in units)[:count])
    if count > 1:  # the first unit has small tensors, and no part alone
        assert len(sent_parts(store)) < sum(-(-file.nbytes // PART) for file in plan.files)


def cut_off(store: ObjectServer) -> None:
    """The store loses a part."""
    (upload,) = store.uploads.values()
    del upload.parts[max(upload.parts)]


def change_part(store: ObjectServer) -> None:
    """Somebody else sends another one."""
    (upload,) = store.uploads.values()
    upload.parts[min(upload.parts)] = b"another"


@pytest.mark.parametrize("change", [cut_off, change_part])
def test_parts_that_the_store_has_lost_are_made_again(
    change: Callable[[ObjectServer], None], store: ObjectServer, folder: Path, tmp_path: Path
) -> None:
    plan = plan_of_kind("dense", tmp_path, REGISTRY)
    with pytest.raises(OutputError):
        uploaded(plan, folder, ending_after(6, OutputError("the disk is gone")))
    change(store)
    result, _ = uploaded(plan, folder)
    assert 0 < result.left < plan.size
    require_made(plan, store, tmp_path)


@pytest.mark.parametrize("how", ["damaged", "removed"])
def test_edges_that_were_lost_are_made_again(
    how: str, store: ObjectServer, folder: Path, tmp_path: Path
) -> None:
    plan = plan_of_kind("dense", tmp_path, REGISTRY)
    with pytest.raises(OutputError):
        uploaded(plan, folder, ending_after(6, OutputError("the disk is gone")))
    edges = sorted(folder.glob("*.edges"))
    for path in edges:
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data) if how == "damaged" else path.unlink()
    assert edges
    uploaded(plan, folder)
    require_made(plan, store, tmp_path)


def test_an_upload_that_is_gone_begins_anew(store: ObjectServer, folder: Path, tmp_path: Path) -> None:
    """A rule of the bucket has removed it."""
    plan, heard = plan_of_kind("dense", tmp_path, REGISTRY), Heard()
    with pytest.raises(OutputError):
        uploaded(plan, folder, ending_after(4, OutputError("the disk is gone")))
    store.uploads.clear()
    result, _ = uploaded(plan, folder, progress=heard)
    assert heard.all == ["started over: an upload that the store doesn't know any more"]
    assert result.left == 0
    require_made(plan, store, tmp_path)


def test_what_another_run_has_sent_is_given_up(store: ObjectServer, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError):
        uploaded(
            plan_of_kind("dense", tmp_path, REGISTRY),
            folder,
            ending_after(4, OutputError("the disk is gone")),
        )
    plan, heard = plan_of_kind("factors", tmp_path, REGISTRY), Heard()
    result, _ = uploaded(plan, folder, progress=heard)
    assert heard.all == ["started over: another plan"]
    assert result.left == 0
    require_made(plan, store, tmp_path)


@pytest.mark.parametrize("kept", [False, True])
def test_ctrl_c_asks(kept: bool, store: ObjectServer, folder: Path, tmp_path: Path) -> None:
    plan, heard, asked = plan_of_kind("dense", tmp_path, REGISTRY), Heard(), list[float]()

    def keep(part: Path, share: float) -> bool:
        asked.append(share)
        return kept

    with pytest.raises(KeyboardInterrupt):
        uploaded(plan, folder, ending_after(4, KeyboardInterrupt()), keep=keep, progress=heard)
    assert len(asked) == 1
    assert 0 < asked[0] < 1
    assert heard.all == (["kept out.gguf.quantrecipe-upload"] if kept else [])
    assert nothing_is_left(store, folder) != kept
    result, _ = uploaded(plan, folder)
    assert bool(result.left) == kept
    require_made(plan, store, tmp_path)


def test_ctrl_c_before_anything_is_done_leaves_nothing(
    store: ObjectServer, folder: Path, tmp_path: Path
) -> None:
    plan = plan_of_kind("dense", tmp_path, REGISTRY)
    with pytest.raises(KeyboardInterrupt):
        uploaded(plan, folder, ending_after(0, KeyboardInterrupt()), keep=lambda part, share: True)
    assert nothing_is_left(store, folder)


def test_what_would_be_met_again_leaves_nothing(store: ObjectServer, folder: Path, tmp_path: Path) -> None:
    plan = plan_of_kind("dense", tmp_path, REGISTRY)
    with pytest.raises(NonFiniteError):
        uploaded(plan, folder, ending_after(4, NonFiniteError("NaN")))
    assert nothing_is_left(store, folder)


def test_bytes_that_changed_on_their_way_are_refused(
    store: ObjectServer, folder: Path, tmp_path: Path
) -> None:
    def flip(outcome: Outcome, count: int) -> Outcome:
        if count == 4:
            outcome.result.edges[-1] ^= 1
        return outcome

    plan = plan_of_kind("dense", tmp_path, REGISTRY)
    with pytest.raises(OutputError, match="other bytes have come than the worker made"):
        uploaded(plan, folder, Changing(flip))
    uploaded(plan, folder)
    require_made(plan, store, tmp_path)


def test_a_model_that_changes_meanwhile_gives_no_file(
    store: ObjectServer, folder: Path, tmp_path: Path
) -> None:
    plan = plan_of_kind("dense", tmp_path, REGISTRY)
    (path,) = plan.model.files
    first = min(it.offset for source in plan.model.sources.values() for it in source.extents)

    def change(outcome: Outcome, count: int) -> Outcome:
        if count == 4:
            with path.open("r+b") as file:
                file.seek(first)
                byte = file.read(1)[0]
                file.seek(first)
                file.write(bytes([byte ^ 64]))
        return outcome

    with pytest.raises(ModelError, match="has changed while it was read"):
        uploaded(plan, folder, Changing(change))
    assert nothing_is_left(store, folder)


def test_what_is_in_the_way_is_kept(store: ObjectServer, folder: Path, tmp_path: Path) -> None:
    """What was there before, and what came there while the work was done."""
    plan = plan_of_kind("dense", tmp_path, REGISTRY)
    name = "bucket/made/out-0.gguf"
    store.put(name, b"precious")
    with pytest.raises(OutputError, match=r"s3://bucket/made/out-0.gguf exists; say --force"):
        uploaded(plan, folder, ending_after(0, AssertionError("nobody is to work")))
    del store.objects[name]

    def put(outcome: Outcome, count: int) -> Outcome:
        store.put(name, b"precious")
        return outcome

    with pytest.raises(OutputError, match=r"s3://bucket/made/out-0.gguf exists; say --force"):
        uploaded(plan, folder, Changing(put))
    assert store.objects[name].data == b"precious"
    result, _ = uploaded(plan, folder, force=True)
    assert result.left == plan.size
    require_made(plan, store, tmp_path)


def test_a_run_that_was_killed_when_the_file_had_its_name_is_ended(
    store: ObjectServer, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of_kind("shards", tmp_path, REGISTRY)
    with monkeypatch.context() as patch:
        patch.setattr(module.KeptParts, "remove", lambda self, give_up: self.keep())
        uploaded(plan, folder)
    assert list(folder.iterdir()) != []
    store.asked.clear()
    result, sent = uploaded(plan, folder)
    assert (result.left, len(sent)) == (plan.size, len(plan.files))
    assert {it.method for it in store.asked} <= {"GET", "HEAD"}
    require_made(plan, store, tmp_path)


def test_other_bytes_are_removed(
    store: ObjectServer, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = store.put
    monkeypatch.setattr(store, "put", lambda path, data, etag="": put(path, data[:-1] + b"\1", "0" * 32))
    with pytest.raises(OutputError, match=r"other bytes came to be in s3://bucket/made/out-0.gguf than were"):
        uploaded(plan_of_kind("dense", tmp_path, REGISTRY), folder)
    assert nothing_is_left(store, folder)


def test_encrypted_objects_are_read_back(
    store: ObjectServer, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = store.put
    monkeypatch.setattr(store, "put", lambda path, data, etag="": put(path, data, "0" * 32))
    plan = plan_of_kind("dense", tmp_path, REGISTRY)
    _, (sent,) = uploaded(plan, folder)
    assert sent.compared == "reading it back"
    require_made(plan, store, tmp_path)


@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_a_store_that_fails_for_a_while_is_gone_on_with(
    method: str, store: ObjectServer, folder: Path, tmp_path: Path
) -> None:
    """A part that can't be sent, and a name that can't be given to the first file, or to the second."""

    def trouble(asked: Asked) -> str | None:
        if asked.method != method or "uploads" in asked.query:
            return None
        second = "out-1" in asked.path
        return "AccessDenied" if second and (method == "POST" or asked.query["partNumber"] == "9") else None

    plan = plan_of_kind("shards", tmp_path, REGISTRY)
    store.trouble = trouble
    with pytest.raises(
        OutputError, match=r"(?s)out-1.gguf can't be written: .*% of the work is in the store"
    ) as told:
        uploaded(plan, folder)
    assert told.value.problems
    store.trouble = lambda asked: None
    store.asked.clear()
    # With POST, the first file has its name by now.
    result, _ = uploaded(plan, folder)
    assert result.left > 0
    assert (result.left == plan.size) == (method == "POST")
    assert (sent_parts(store) == []) == (method == "POST")
    require_made(plan, store, tmp_path)


def test_two_runs_at_once(store: ObjectServer, folder: Path, tmp_path: Path) -> None:
    plan = plan_of_kind("dense", tmp_path, REGISTRY)
    refused: list[str] = []

    def other(outcome: Outcome, count: int) -> Outcome:
        if count == 2:
            with pytest.raises(OutputError) as error:
                uploaded(plan, folder)
            refused.append(str(error.value))
        return outcome

    uploaded(plan, folder, Changing(other))
    assert "another process is writing to" in refused[0]
    require_made(plan, store, tmp_path)


def test_what_was_lost_on_the_way_is_made_once_more(
    store: ObjectServer, folder: Path, tmp_path: Path
) -> None:
    """Its parts are sent twice: they are the same."""
    seen: set[int | None] = set()

    def lose(outcome: Outcome, count: int) -> Outcome:
        first = outcome.number not in seen
        seen.add(outcome.number)
        return replace(outcome, result=None, lost="gone") if first and count % 3 == 0 else outcome

    plan = plan_of_kind("experts", tmp_path, REGISTRY)
    uploaded(plan, folder, Changing(lose))
    require_made(plan, store, tmp_path)


def test_what_a_store_on_disk_has_isn_t_made(store: ObjectServer, folder: Path, tmp_path: Path) -> None:
    """What is damaged in it is made: the parts that it was in are sent once more."""
    plan, kept = plan_of_kind("dense", tmp_path, REGISTRY), tmp_path / "kept"
    for turn in ("filled", "used", "damaged"):
        if turn == "damaged":
            for path in kept.rglob("*"):
                if path.is_file() and path.stat().st_size > 30_000:
                    data = bytearray(path.read_bytes())
                    data[20_000] ^= 1
                    path.write_bytes(data)
        result, _ = uploaded(plan, folder, store=kept, force=True)
        assert bool(result.from_store) == (turn != "filled")
        assert bool(result.store_problems) == (turn == "damaged")
        require_made(plan, store, tmp_path)


def test_room_for_edges_is_asked_for_before_the_work(
    store: ObjectServer, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("", (), {"free": 1000})())
    with pytest.raises(
        OutputError, match=r"parts.jsonl needs .* free; free some space, or start the command in a"
    ):
        uploaded(plan_of_kind("dense", tmp_path, REGISTRY), folder)
    assert nothing_is_left(store, folder)


def test_the_journal_says_no_secret(store: ObjectServer, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError):
        uploaded(
            plan_of_kind("dense", tmp_path, REGISTRY),
            folder,
            ending_after(4, OutputError("the disk is gone")),
        )
    lines = (folder / "parts.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["uploads"] == [["s3://bucket/made/out-0.gguf", next(iter(store.uploads))]]
    assert object_server.SECRET not in "".join(lines)
    assert (folder / "parts.jsonl").stat().st_mode & 0o077 == 0
    assert {it.stat().st_mode & 0o077 for it in folder.glob("*.edges")} == {0}


def without_md5s(store: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a store encrypts: what it calls an object says nothing of its bytes."""
    put = store.put
    monkeypatch.setattr(store, "put", lambda path, data, etag="": put(path, data, "0" * 32))


def test_an_upload_that_somebody_gives_up_at_the_end_is_told(
    store: ObjectServer, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has the name stays there: it is none of ours, though it has other bytes than were sent."""
    plan, name = plan_of_kind("dense", tmp_path, REGISTRY), "bucket/made/out-0.gguf"
    finish = module._SharedParts.finish

    def finishing(self: Any, headers: Any) -> None:
        finish(self, headers)
        store.uploads.clear()

    store.put(name, b"precious")
    with monkeypatch.context() as patch:
        patch.setattr(module._SharedParts, "finish", finishing)
        with pytest.raises(OutputError, match=r"out-0.gguf can't be written: .*the upload is gone"):
            uploaded(plan, folder, force=True)
    assert store.objects[name].data == b"precious"
    heard = Heard()
    uploaded(plan, folder, force=True, progress=heard)
    assert heard.all == ["started over: an upload that the store doesn't know any more"]
    require_made(plan, store, tmp_path)


def test_a_part_of_an_upload_that_is_gone_can_t_be_sent(
    store: ObjectServer, folder: Path, tmp_path: Path
) -> None:
    plan = plan_of_kind("dense", tmp_path, REGISTRY)

    def change(outcome: Outcome, count: int) -> Outcome:
        store.uploads.clear()
        return outcome

    with pytest.raises(
        OutputError, match=r"the upload is gone.*; run the same command again: it begins anew"
    ):
        uploaded(plan, folder, Changing(change))
    uploaded(plan, folder)
    require_made(plan, store, tmp_path)


def test_what_was_begun_before_the_store_refused_is_given_up(
    store: ObjectServer, folder: Path, tmp_path: Path
) -> None:
    store.trouble = lambda asked: (
        "AccessDenied" if "uploads" in asked.query and "out-1" in asked.path else None
    )
    with pytest.raises(OutputError, match=r"out-1.gguf can't be written"):
        uploaded(plan_of_kind("shards", tmp_path, REGISTRY), folder)
    assert nothing_is_left(store, folder)


def test_a_file_that_has_its_name_is_known_without_an_md5(
    store: ObjectServer, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of several has it; the second was refused."""
    without_md5s(store, monkeypatch)
    plan = plan_of_kind("shards", tmp_path, REGISTRY)
    store.trouble = lambda asked: (
        "AccessDenied"
        if asked.method == "POST" and "out-1" in asked.path and "uploadId" in asked.query
        else None
    )
    with pytest.raises(OutputError, match=r"out-1.gguf can't be written"):
        uploaded(plan, folder)
    store.trouble = lambda asked: None
    result, _ = uploaded(plan, folder)
    assert result.left == plan.size
    require_made(plan, store, tmp_path)


def test_a_store_that_can_t_say_what_has_the_name_is_an_error_of_ours(
    store: ObjectServer, folder: Path, tmp_path: Path
) -> None:
    plan = plan_of_kind("dense", tmp_path, REGISTRY)
    with pytest.raises(OutputError):
        uploaded(plan, folder, ending_after(4, OutputError("the disk is gone")))
    store.uploads.clear()
    store.trouble = lambda asked: "BadDigest" if "/made/" in asked.path and not asked.query else None
    with pytest.raises(OutputError, match=r"out-0.gguf can't be written"):
        uploaded(plan, folder)


def test_who_may_not_list_parts_is_told_before_the_work(
    store: ObjectServer, folder: Path, tmp_path: Path
) -> None:
    store.trouble = lambda asked: (
        "AccessDenied" if asked.method == "GET" and "uploadId" in asked.query else None
    )
    with pytest.raises(OutputError, match=r"s3:ListMultipartUploadParts"):
        uploaded(
            plan_of_kind("dense", tmp_path, REGISTRY),
            folder,
            ending_after(0, AssertionError("nobody is to work")),
        )
    assert nothing_is_left(store, folder)


def test_what_lies_here_already_needs_no_more_room(
    store: ObjectServer, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    require = module.require_space

    def requiring(wanted: Any, **more: Any) -> None:
        ((_, nbytes),) = wanted = list(wanted)
        asked.append(nbytes)
        require(wanted, **more)

    monkeypatch.setattr(module, "require_space", requiring)
    plan = plan_of_kind("dense", tmp_path, REGISTRY)
    with pytest.raises(OutputError):
        uploaded(plan, folder, ending_after(6, OutputError("the disk is gone")))
    uploaded(plan, folder)
    assert 0 < asked[1] < asked[0]


def test_edges_go_when_the_parts_with_them_are_sent(
    store: ObjectServer, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish, seen = module._SharedParts.finish, list[list[Path]]()

    def finishing(self: Any, headers: Any) -> None:
        seen.append(list(folder.glob("*.edges")))  # the header's part is still to come
        finish(self, headers)
        seen.append(list(folder.glob("*.edges")))

    monkeypatch.setattr(module._SharedParts, "finish", finishing)
    uploaded(plan_of_kind("dense", tmp_path, REGISTRY), folder)
    assert [bool(it) for it in seen] == [True, False]
