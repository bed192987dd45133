"""Models in object stores: in memory, and with a server of this machine in S3's place."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click.testing
import fsspec
import pytest
from click.testing import CliRunner
from support.elsewhere import (
    BLOCK,
    EXAMPLE,
    IN_MEMORY,
    IN_STORE,
    blocks_in,
    example_in_memory,
    example_in_store,
    refused_from,
)
from support.object_server import Asked, ObjectServer

from quantrecipe.cli.app import app
from quantrecipe.errors import ModelError
from quantrecipe.model.objects import ObjectAddress, worth_another_try
from quantrecipe.model.open_model import open_model
from quantrecipe.model.remote import block_file
from quantrecipe.output.apply import Result, apply_plan
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe
from quantrecipe.registry import load_registry
from quantrecipe.remote_files import is_elsewhere, remote_file

WEIGHTS = "bucket/models/tiny-code/model.safetensors"
REGISTRY = load_registry(plugins=False)
MIX = load_recipe("llama.cpp/Q4_K_M", registry=REGISTRY)
store = pytest.fixture(example_in_store)
memory = pytest.fixture(example_in_memory)


def applied(address: str | Path, out: Path) -> Result:
    plan = make_plan(MIX, open_model(address, registry=REGISTRY), registry=REGISTRY)
    return apply_plan(plan, out, registry=REGISTRY, threads=2)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What is made of the folder on this machine."""
    folder = tmp_path_factory.mktemp("here") / "tiny-code"
    folder.symlink_to(EXAMPLE)
    return applied(folder, folder.with_name("out.gguf")).path.read_bytes()


def run(*arguments: str) -> click.testing.Result:
    return CliRunner().invoke(app, ["--no-plugins", *arguments])


@pytest.mark.parametrize("address", [IN_MEMORY, Path(IN_MEMORY), f"{IN_MEMORY}/model.safetensors"])
def test_the_same_bytes_as_from_a_folder(
    address: str | Path, memory: Any, expected: bytes, tmp_path: Path
) -> None:
    result = applied(address, tmp_path / "out.gguf")
    assert result.path.read_bytes() == expected
    assert result.unchecked == ()


def test_headers_come_by_ranges_alone_and_each_block_once(
    store: ObjectServer, expected: bytes, tmp_path: Path
) -> None:
    model = open_model(IN_STORE, registry=REGISTRY)
    assert model.path.name == "tiny-code"
    assert store.ranges_of(WEIGHTS) == [(0, BLOCK - 1)]
    plan = make_plan(MIX, model, registry=REGISTRY)
    assert apply_plan(plan, tmp_path / "out.gguf", registry=REGISTRY).path.read_bytes() == expected
    size = len(store.objects[WEIGHTS].data)
    sent = sorted(store.ranges_of(WEIGHTS))[1:]
    assert sent == [(at, min(at + BLOCK, size) - 1) for at in range(0, size, BLOCK)]


def test_what_was_downloaded_is_there_the_next_time(
    store: ObjectServer, expected: bytes, tmp_path: Path
) -> None:
    applied(IN_STORE, tmp_path / "out.gguf")
    store.asked.clear()
    assert applied(IN_STORE, tmp_path / "again.gguf").path.read_bytes() == expected
    assert store.ranges_of(WEIGHTS) == []


def test_one_gguf_among_others(memory: Any, tmp_path: Path) -> None:
    """Nothing is asked of what isn't part of it; shards are."""
    made = applied(IN_MEMORY, tmp_path / "made.gguf").path.read_bytes()
    for name in ("one.gguf", "one.gguf.md", "two.gguf"):
        memory.pipe(f"/ggufs/{name}", made)
    model = open_model("memory://ggufs/one.gguf", registry=REGISTRY)
    assert model.container == "gguf"
    assert [it.name for it in model.path.parent.iterdir()] == ["one.gguf"]
    with pytest.raises(ModelError, match="a folder of GGUF files"):
        open_model("memory://ggufs", registry=REGISTRY)


def test_a_replaced_object_is_another_model(memory: Any, tmp_path: Path) -> None:
    """What was kept of the old one isn't used, nor kept any longer."""
    first = applied(IN_MEMORY, tmp_path / "first.gguf").path.read_bytes()
    data = bytearray(memory.cat_file("/store/tiny-code/model.safetensors"))
    data[-2000:] = bytes(2000)
    memory.pipe("/store/tiny-code/model.safetensors", bytes(data))
    assert applied(IN_MEMORY, tmp_path / "second.gguf").path.read_bytes() != first
    assert len(list((tmp_path / "cache").rglob("head"))) == 1


def test_an_object_that_is_replaced_between_plan_and_apply(store: ObjectServer, tmp_path: Path) -> None:
    """Of the same size, so that nothing but its ETag says it: there is no output, and none of its blocks is used."""
    plan = make_plan(MIX, open_model(IN_STORE, registry=REGISTRY), registry=REGISTRY)
    data = bytearray(store.objects[WEIGHTS].data)
    data[-1000] ^= 1
    store.put(WEIGHTS, bytes(data))
    with pytest.raises(
        ModelError, match=r"model.safetensors has been replaced .*: ETag was [0-9a-f]+, and is"
    ):
        apply_plan(plan, tmp_path / "out.gguf", registry=REGISTRY)
    assert list(tmp_path.glob("out*")) == []
    assert [it for it in (tmp_path / "cache").rglob("0*") if it.is_file()] == []
    assert applied(IN_STORE, tmp_path / "out.gguf").path.exists()


def test_a_change_is_found_while_much_is_still_to_be_read(
    store: ObjectServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = open_model(IN_STORE, registry=REGISTRY)
    file = remote_file(model.path / "model.safetensors")
    assert file is not None
    file.read_into(memoryview(bytearray(10)), 0)
    store.put(WEIGHTS, store.objects[WEIGHTS].data)  # the same bytes, at another time
    monkeypatch.setattr(block_file, "_LOOK_SECONDS", 0)
    with pytest.raises(ModelError, match="has been replaced since its header was read: changed was"):
        file.read_into(memoryview(bytearray(10)), file.size - 10)


def test_a_shorter_object_is_told(memory: Any, tmp_path: Path) -> None:
    plan = make_plan(MIX, open_model(IN_MEMORY, registry=REGISTRY), registry=REGISTRY)
    memory.pipe("/store/tiny-code/model.safetensors", b"short")
    with pytest.raises(ModelError, match=r"has been replaced .*: it had 7,348,736 bytes, and has 5"):
        apply_plan(plan, tmp_path / "out.gguf", registry=REGISTRY)
    memory.rm("/store/tiny-code/model.safetensors")
    with pytest.raises(ModelError, match="there is nothing of that name"):
        apply_plan(plan, tmp_path / "out.gguf", registry=REGISTRY)


def test_a_connection_that_dies_and_a_store_that_is_busy(
    store: ObjectServer, expected: bytes, tmp_path: Path
) -> None:
    """Each range fails several times, more often than s3fs itself tries again."""
    seen: dict[object, int] = {}

    def trouble(asked: Asked) -> str | None:
        tries = seen[asked.path, asked.first] = seen.get((asked.path, asked.first), 0) + 1
        return {1: "InternalError", 2: "die", 3: "SlowDown", 4: "die"}.get(tries) if asked.first else None

    store.trouble = trouble
    assert applied(IN_STORE, tmp_path / "out.gguf").path.read_bytes() == expected


def test_a_break_is_gone_on_after(store: ObjectServer, expected: bytes, tmp_path: Path) -> None:
    broken = len(store.objects[WEIGHTS].data) // BLOCK // 2 * BLOCK
    store.trouble = refused_from(broken, tmp_path / "cache", "AccessDenied")
    with pytest.raises(
        ModelError, match=r"s3://bucket/models/tiny-code/model.safetensors isn't shown to you"
    ):
        applied(IN_STORE, tmp_path / "out.gguf")
    assert not (tmp_path / "out.gguf").exists()
    store.trouble = lambda asked: None
    had = blocks_in(tmp_path / "cache")
    store.asked.clear()
    assert applied(IN_STORE, tmp_path / "out.gguf").path.read_bytes() == expected
    assert len(had) > 3
    assert not had & {first for first, _ in store.ranges_of(WEIGHTS)}


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("s3://elsewhere/model", "s3://elsewhere/model: there is nothing of that name; check it"),
        ("s3://bucket/models/other", "s3://bucket/models/other: there is nothing of that name"),
        ("s3://bucket/models", r"s3://bucket/models holds no \.safetensors and no \.gguf files"),
        ("s3://bucket/models/tiny-code/other.gguf", "other.gguf: there is nothing of that name"),
        ("s3://bucket/../secret", "is no address of a model; write SCHEME://PLACE/FOLDER"),
        ("s3://me:secret@bucket/model", "an address in s3:// has a password in it"),
    ],
)
def test_addresses_of_nothing(store: ObjectServer, address: str, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        open_model(address, registry=REGISTRY)
    assert "secret@" not in str(caught.value)


def test_without_keys_and_with_wrong_ones(store: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> None:
    store.users = {"somebody-else"}
    with pytest.raises(ModelError, match=r"isn't shown to you: .*check its name, and the keys") as caught:
        open_model(IN_STORE, registry=REGISTRY)
    assert "a-secret-key" not in str(caught.value)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    type(fsspec.filesystem("s3")).clear_instance_cache()
    with pytest.raises(ModelError, match="isn't shown to you: NoCredentialsError"):
        open_model(IN_STORE, registry=REGISTRY)


def test_without_fsspec_and_without_the_package_of_a_store(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match=r"gs:// can't be read: .*; pip install gcsfs"):
        open_model("gs://bucket/model", registry=REGISTRY)
    for name in [it for it in sys.modules if it.partition(".")[0] == "fsspec"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ModelError, match=r"pip install 'quantrecipe\[fsspec\]' s3fs, or download"):
        open_model("s3://bucket/model", registry=REGISTRY)
    assert not is_elsewhere("github://somebody/something")


@pytest.mark.parametrize("name", ["a\nb.json", "c:x.json", "x?.gguf"])
def test_a_store_that_names_what_can_t_be_a_file(name: str, memory: Any) -> None:
    memory.store[f"/store/tiny-code/{name}"] = memory.store["/store/tiny-code/config.json"]
    with pytest.raises(ModelError, match="which can't be the name of one"):
        open_model(IN_MEMORY, registry=REGISTRY)


def test_a_folder_of_too_much(memory: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from quantrecipe.model.objects import mirror

    with monkeypatch.context() as patched:
        patched.setattr(mirror, "_MOST", 3)
        with pytest.raises(ModelError, match="holds 5 files, more than a model has"):
            open_model(IN_MEMORY, registry=REGISTRY)
    monkeypatch.setattr(mirror, "_MOST_SMALL", 100_000)
    with pytest.raises(
        ModelError, match=r"holds 119.97 KiB of texts \(.json, .txt, …\), more than a model has"
    ):
        open_model(IN_MEMORY, registry=REGISTRY)
    assert list((tmp_path / "cache").rglob("*.json")) == []


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("s3://b/x", True),
        ("memory:/b/x", True),
        ("hf://o/n", True),
        ("https://host/model.gguf", True),
        ("https://host/model.gguf?sig=1", True),
        ("https://host/page", False),
        ("file:///x/model.gguf", False),
        ("C:/x/model.gguf", False),
        ("nothing://x/model.gguf", False),
        ("folder/model.gguf", False),
    ],
)
def test_what_is_an_address(text: str, is_one: bool) -> None:
    assert is_elsewhere(text) is is_one


def test_a_signature_isn_t_shown() -> None:
    address = ObjectAddress.parse("https://host/model.gguf?X-Amz-Signature=abc")
    assert str(address) == "https://host/model.gguf?…"
    assert address.secret
    assert not ObjectAddress.parse("s3://b/x.gguf?versionId=3").secret


class _HttpError(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(f"https://host/x?signature=abc said {status}")
        self.status = status


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (TimeoutError(), True),
        (ConnectionResetError(), True),
        (OSError(5, "Input/output error"), True),
        (OSError(16, "SlowDown"), True),
        (_HttpError(503), True),
        (_HttpError(429), True),
        (_HttpError(400), False),
        (_HttpError(403), False),
        (OSError(22, "InvalidRange"), False),
        (PermissionError(), False),
        (FileNotFoundError(), False),
        (ValueError(), False),
        (ModelError("x", "y"), False),
        (KeyboardInterrupt(), False),
    ],
)
def test_what_is_tried_again(error: BaseException, again: bool) -> None:
    assert worth_another_try(error) is again


def hidden(cause: Exception) -> FileNotFoundError:
    """As fsspec's HTTP file system raises it."""
    error = FileNotFoundError("https://host/x")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("cause", "said"),
    [
        (_HttpError(404), "there is nothing of that name"),
        (_HttpError(403), "isn't shown to you"),
        (_HttpError(503), "can't be reached"),
        (ConnectionRefusedError(111, "refused"), "can't be reached"),
        (ValueError("no size"), "there is nothing of that name"),
    ],
    ids=repr,
)
def test_what_is_behind_a_file_that_is_said_not_to_be_there(cause: Exception, said: str) -> None:
    from quantrecipe.model.objects import refusals

    error = hidden(cause)
    with pytest.raises(ModelError, match=said), refusals("here"):
        raise error
    assert worth_another_try(error) is ("reached" in said)


def test_a_url_in_an_error_loses_its_signature() -> None:
    from quantrecipe.model.objects import refusals

    with pytest.raises(ModelError, match=r"https://host/x\?… said 400") as caught, refusals("here"):
        raise _HttpError(400)
    assert "abc" not in str(caught.value)


def test_commands_that_read_headers(memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All kinds of places in which a model stands."""
    monkeypatch.chdir(tmp_path)
    for arguments in (
        ("plan", "Q4_K_M", IN_MEMORY, "--json"),
        ("inspect", IN_MEMORY),
        ("advise", IN_MEMORY, "--vram", "8"),
        ("explain", "Q4_K_M", IN_MEMORY, "token_embd"),
        ("diff", "Q4_K_M", "Q4_K_S", "--model", IN_MEMORY),
    ):
        result = run(*arguments)
        assert result.exit_code == 0, (arguments, result.output)
    result = run("plan", IN_MEMORY, "Q4_K_M")
    assert result.exit_code == 2, result.output


@pytest.mark.parametrize("keep", [False, True])
def test_apply_throws_the_download_away(
    memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: bool, expected: bytes
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("apply", "Q4_K_M", IN_MEMORY, *(["--keep-download"] if keep else []))
    assert result.exit_code == 0, result.output
    assert Path("tiny-code-Q4_K_M.gguf").read_bytes() == expected
    assert bool([it for it in (tmp_path / "cache").rglob("0*") if it.name.isdigit() and it.is_file()]) is keep
    source = run("verify", "tiny-code-Q4_K_M.gguf", "--source", IN_MEMORY)
    assert source.exit_code == 0, source.output


def test_a_file_there_is_verified(memory: Any, tmp_path: Path, expected: bytes) -> None:
    """Its header, too: a byte between the values, and one of a tensor."""
    assert is_whole(memory, expected)
    for place in (5, len(expected) - 10):
        data = bytearray(expected)
        data[place] ^= 1
        assert not is_whole(memory, bytes(data))


def is_whole(memory: Any, data: bytes) -> bool:
    memory.pipe("/made/out.gguf", data)
    return run("verify", "memory://made/out.gguf").exit_code == 0
