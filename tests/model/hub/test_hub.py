"""Models on the hub, with a server of this machine in its place."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator
from functools import partialmethod
from pathlib import Path
from typing import Any

import click.testing
import pytest
from click.testing import CliRunner
from support.elsewhere import BLOCK, EXAMPLE, blocks_in, example_on_hub, refused_from
from support.hub_server import COMMIT, REPO, Asked, HubServer

from quantrecipe.cli.app import app
from quantrecipe.errors import ModelError
from quantrecipe.model.hub import mirror, mirrored
from quantrecipe.model.open_model import open_model
from quantrecipe.model.remote import blocks
from quantrecipe.model.remote.blocks import Blocks
from quantrecipe.output.apply import Result, apply_plan
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe
from quantrecipe.registry import load_registry
from quantrecipe.remote_files import forget

ROOT = Path(__file__).parents[3]
WEIGHTS = "model.safetensors"
REGISTRY = load_registry(plugins=False)
MIX = load_recipe("llama.cpp/Q4_K_M", registry=REGISTRY)
ADDRESS = f"hf://{REPO}"
example = pytest.fixture(example_on_hub)


@pytest.fixture
def hub(example: HubServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """With the example in it."""
    made = list[Blocks]()

    def noted(*arguments: Any) -> Blocks:
        made.append(Blocks(*arguments))
        return made[-1]

    monkeypatch.setattr(mirror, "Blocks", noted)
    yield example
    while any(it._coming for it in made):  # blocks that were ordered ahead would ask the next test's server
        time.sleep(0.01)


def applied(address: str, out: Path) -> Result:
    plan = make_plan(MIX, open_model(address, registry=REGISTRY), registry=REGISTRY)
    return apply_plan(plan, out, registry=REGISTRY, threads=2)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What is made of the folder on this machine."""
    folder = tmp_path_factory.mktemp("here") / "tiny-code"
    folder.symlink_to(EXAMPLE)
    return applied(str(folder), folder.with_name("out.gguf")).path.read_bytes()


def test_headers_come_by_ranges_alone(hub: HubServer) -> None:
    model = open_model(ADDRESS, registry=REGISTRY)
    assert [it.name for it in model.tensors] == [
        it.name for it in open_model(EXAMPLE, registry=REGISTRY).tensors
    ]
    assert model.path.name == "tiny-code"
    assert hub.ranges_of(WEIGHTS) == [(0, (1 << 18) - 1)]
    # The token is for the hub alone.
    hosts = {(it.host, it.token) for it in hub.asked if "tiny-code" in it.path or "cdn" in it.path}
    assert hosts == {("127.0.0.1", "Bearer hf_secret"), ("localhost", "")}


def test_the_same_bytes_as_from_a_folder(hub: HubServer, expected: bytes, tmp_path: Path) -> None:
    result = applied(ADDRESS, tmp_path / "out.gguf")
    assert result.path.read_bytes() == expected
    assert result.unchecked == ()
    sent = sorted(it for it in hub.ranges_of(WEIGHTS) if it != (0, BLOCK - 1))
    assert len(sent) == len(set(sent)) == -(-len(hub.files[WEIGHTS]) // BLOCK) - 1  # each block once


def test_what_was_downloaded_is_there_the_next_time(hub: HubServer, expected: bytes, tmp_path: Path) -> None:
    applied(ADDRESS, tmp_path / "out.gguf")
    hub.asked.clear()
    again = applied(ADDRESS, tmp_path / "again.gguf")
    assert again.path.read_bytes() == expected
    assert [it.path for it in hub.asked] == [f"/api/models/{REPO}/revision/main"]
    forget(open_model(ADDRESS, registry=REGISTRY).files)
    assert not [it for it in (tmp_path / "cache").rglob("0*") if it.is_file()]


def test_a_block_that_was_cut_short_is_brought_again(hub: HubServer, expected: bytes, tmp_path: Path) -> None:
    """As by a disk that was full, or a power cut."""
    applied(ADDRESS, tmp_path / "out.gguf")
    for path in (tmp_path / "cache").rglob("00*"):
        if path.is_file() and int(path.name) % 3 == 0:
            path.write_bytes(path.read_bytes()[:1000])
    hub.asked.clear()
    again = applied(ADDRESS, tmp_path / "again.gguf")
    assert again.path.read_bytes() == expected
    assert hub.ranges_of(WEIGHTS)


def test_with_little_room_blocks_go_and_come_again(
    hub: HubServer, expected: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUANTRECIPE_HUB_ROOM", "1M")
    result = applied(ADDRESS, tmp_path / "out.gguf")
    assert result.path.read_bytes() == expected
    assert len([it for it in (tmp_path / "cache").rglob("0*") if it.name.isdigit()]) <= 16


def test_the_hub_is_asked_where_a_file_is_once(hub: HubServer, expected: bytes, tmp_path: Path) -> None:
    """And again where the address that it gave has expired. Storage never gets the token."""
    applied(ADDRESS, tmp_path / "out.gguf")
    resolved = [it for it in hub.asked if it.path.endswith(f"{COMMIT}/{WEIGHTS}")]
    assert len(resolved) <= 8  # those that are on their way before the first is answered
    assert {it.token for it in hub.asked if it.path.startswith("/cdn")} == {""}
    forget(open_model(ADDRESS, registry=REGISTRY).files)
    expired = 0

    def trouble(asked: Asked) -> int | None:
        nonlocal expired
        expired -= asked.path.startswith("/cdn")
        return 403 if asked.path.startswith("/cdn") and expired == 0 else None

    hub.asked.clear()
    expired, hub.trouble = 4, trouble
    assert applied(ADDRESS, tmp_path / "again.gguf").path.read_bytes() == expected
    assert 1 <= len([it for it in hub.asked if it.path.endswith(f"{COMMIT}/{WEIGHTS}")]) <= 8


def test_a_connection_that_dies_and_a_hub_that_is_busy(
    hub: HubServer, expected: bytes, tmp_path: Path
) -> None:
    """Each range fails twice: with 429, then half-way."""
    seen: dict[object, int] = {}

    def trouble(asked: Asked) -> int | str | None:
        tries = seen[asked.path, asked.first] = seen.get((asked.path, asked.first), 0) + 1
        return {1: 429, 2: "die"}.get(tries)

    hub.trouble = trouble
    assert applied(ADDRESS, tmp_path / "out.gguf").path.read_bytes() == expected


def test_a_break_is_gone_on_after(hub: HubServer, expected: bytes, tmp_path: Path) -> None:
    """What is refused for good ends the run without a file; the next run asks for what is missing alone."""
    broken = len(hub.files[WEIGHTS]) // BLOCK // 2 * BLOCK
    hub.trouble = refused_from(broken, tmp_path / "cache", 403)
    with pytest.raises(ModelError, match="the hub answered 403 for hf://owner/tiny-code"):
        applied(ADDRESS, tmp_path / "out.gguf")
    assert not (tmp_path / "out.gguf").exists()
    hub.trouble = lambda asked: None
    had = blocks_in(tmp_path / "cache")
    hub.asked.clear()
    assert applied(ADDRESS, tmp_path / "out.gguf").path.read_bytes() == expected
    assert len(had) > 3
    assert not had & {first for first, _ in hub.ranges_of(WEIGHTS)}


def test_a_hub_that_sends_other_bytes(hub: HubServer, tmp_path: Path) -> None:
    """Its SHA-256 says so before the output gets its name, and nothing of it stays."""
    data = bytearray(hub.files[WEIGHTS])
    data[-1000] ^= 1
    hub.changed[WEIGHTS] = bytes(data)
    with pytest.raises(ModelError, match=r"has the SHA-256 [0-9a-f]{64}, and the hub says"):
        applied(ADDRESS, tmp_path / "out.gguf")
    assert not (tmp_path / "out.gguf").exists()
    del hub.changed[WEIGHTS]
    assert applied(ADDRESS, tmp_path / "out.gguf").unchecked == ()


def test_a_disk_that_fills(
    hub: HubServer, expected: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error that says what to do; what had come is used when there is room again."""
    whole_file, kept = blocks.whole_file, list[Path]()

    def full(path: Path, **settings: Any) -> Any:
        if len(kept) >= 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        kept.append(path)
        return whole_file(path, **settings)

    monkeypatch.setattr(blocks, "whole_file", full)
    with pytest.raises(
        ModelError, match="a downloaded block can't be kept: No space left on device; make room"
    ):
        applied(ADDRESS, tmp_path / "out.gguf")
    assert not (tmp_path / "out.gguf").exists()
    monkeypatch.setattr(blocks, "whole_file", whole_file)
    assert applied(ADDRESS, tmp_path / "out.gguf").path.read_bytes() == expected


def test_a_header_of_another_file(hub: HubServer, tmp_path: Path) -> None:
    """The weights are right, but what says where they lie isn't."""
    data = bytearray(hub.files[WEIGHTS])
    place = data.index(b'"BF16"')
    hub.changed[WEIGHTS] = bytes(data[:place]) + b' "F16"' + bytes(data[place + 6 :])
    model = open_model(ADDRESS, registry=REGISTRY)
    del hub.changed[WEIGHTS]
    plan = make_plan(MIX, model, registry=REGISTRY)
    with pytest.raises(ModelError, match="that was sent first isn't the one of the file"):
        apply_plan(plan, tmp_path / "out.gguf", registry=REGISTRY)
    assert not (tmp_path / "out.gguf").exists()
    assert applied(ADDRESS, tmp_path / "out.gguf").unchecked == ()


def test_a_hub_that_lies_about_a_size(hub: HubServer) -> None:
    hub.sizes[WEIGHTS] = len(hub.files[WEIGHTS]) - 1
    with pytest.raises(ModelError, match=r"has 7,348,736 bytes, and the hub's list says 7,348,735"):
        open_model(ADDRESS, registry=REGISTRY)


def test_a_server_that_sends_no_parts(hub: HubServer, tmp_path: Path) -> None:
    hub.ranges = False
    model = open_model(ADDRESS, registry=REGISTRY)  # the beginning is the beginning
    with pytest.raises(ModelError, match="is sent as a whole only, and not in parts; download it"):
        apply_plan(make_plan(MIX, model, registry=REGISTRY), tmp_path / "out.gguf", registry=REGISTRY)


@pytest.mark.parametrize(
    ("refusal", "message"),
    [
        ((403, "GatedRepo"), "owner/tiny-code is gated: its owner has to let you in; ask on"),
        ((401, "RepoNotFound"), "the hub has no model owner/tiny-code, or shows it to some users only"),
        ((503, ""), "the hub answered 503 for"),
        ((429, ""), r"the hub answered 429 \(too many requests\) for"),
    ],
)
def test_what_the_hub_refuses(hub: HubServer, refusal: tuple[int, str], message: str) -> None:
    hub.refusal = refusal
    with pytest.raises(ModelError, match=message):
        open_model(ADDRESS, registry=REGISTRY)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("hf://owner/other", "the hub has no model owner/other"),
        (f"{ADDRESS}@v9", "owner/tiny-code has no revision 'v9'"),
        (f"{ADDRESS}/onnx", "has no file or folder 'onnx'; it has model.safetensors"),
        ("hf://owner", "'hf://owner' is no address on the hub; write hf://OWNER/NAME"),
        (f"{ADDRESS}/../secret", "is no address on the hub"),
    ],
)
def test_addresses_of_nothing(hub: HubServer, address: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        open_model(address, registry=REGISTRY)


def test_a_revision_and_a_file(hub: HubServer, tmp_path: Path) -> None:
    out = applied(f"{ADDRESS}@{COMMIT}/{WEIGHTS}", tmp_path / "made.gguf").path
    hub.files = {f"files/{name}": out.read_bytes() for name in ("tiny.gguf", "other.gguf")}
    model = open_model(f"{ADDRESS}/files/tiny.gguf", registry=REGISTRY)
    assert model.container == "gguf"
    assert hub.ranges_of("files/other.gguf") == []
    with pytest.raises(ModelError, match="a folder of GGUF files"):
        open_model(f"{ADDRESS}/files", registry=REGISTRY)


def test_a_repository_of_pickles(hub: HubServer) -> None:
    hub.files = {"config.json": b"{}", "pytorch_model.bin": b"..."}
    with pytest.raises(ModelError, match=r"holds no \.safetensors and no \.gguf files"):
        open_model(ADDRESS, registry=REGISTRY)


@pytest.mark.parametrize("name", ["../out.json", "/etc/passwd", "a/../../b.json", "C:/x.json", "a\nb.json"])
def test_a_hub_that_names_files_elsewhere(hub: HubServer, name: str) -> None:
    hub.files[name] = b"{}"
    with pytest.raises(ModelError, match="which can't be the name of one"):
        open_model(ADDRESS, registry=REGISTRY)


def test_what_lies_in_the_other_cache_isn_t_downloaded(hub: HubServer, tmp_path: Path) -> None:
    snapshot = tmp_path / "their-cache/models--owner--tiny-code/snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot / WEIGHTS).write_bytes(hub.files[WEIGHTS])
    folder = mirrored(ADDRESS)
    assert (folder / WEIGHTS).resolve() == (snapshot / WEIGHTS).resolve()
    assert hub.ranges_of(WEIGHTS) == []


def test_without_the_package(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ModelError, match=r"pip install 'quantrecipe\[hub\]'"):
        open_model(ADDRESS, registry=REGISTRY)


def run(*arguments: str) -> click.testing.Result:
    return CliRunner().invoke(app, ["--no-plugins", *arguments])


def test_commands_that_read_headers(hub: HubServer) -> None:
    """All kinds of places in which a model stands."""
    for arguments in (
        ("plan", "Q4_K_M", ADDRESS, "--json"),
        ("inspect", ADDRESS),
        ("advise", ADDRESS, "--vram", "8"),
        ("explain", "Q4_K_M", ADDRESS, "token_embd"),
        ("check", str(ROOT / "recipes/code-model.yaml"), "--model", ADDRESS),
        ("diff", "Q4_K_M", "Q4_K_S", "--model", ADDRESS),
        ("export", "Q4_K_M", "--model", ADDRESS, "--to", "llama-quantize"),
    ):
        result = run(*arguments)
        assert result.exit_code == 0, (arguments, result.output)
    assert set(hub.ranges_of(WEIGHTS)) == {(0, BLOCK - 1)}


@pytest.mark.parametrize("keep", [False, True])
def test_apply_throws_the_download_away(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("apply", "Q4_K_M", ADDRESS, *(["--keep-download"] if keep else []))
    assert result.exit_code == 0, result.output
    assert Path("tiny-code-Q4_K_M.gguf").is_file()
    assert bool([it for it in (tmp_path / "cache").rglob("0*") if it.name.isdigit() and it.is_file()]) is keep
    source = run("verify", "tiny-code-Q4_K_M.gguf", "--source", ADDRESS)
    assert source.exit_code == 0, source.output


def test_what_couldn_t_be_checked_is_told(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub says no hash."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(HubServer, "listing", partialmethod(without_hashes, HubServer.listing))
    result = run("apply", "Q4_K_M", ADDRESS)
    assert "model.safetensors: not held against the hub's hash" in " ".join(result.output.split())


def without_hashes(hub: HubServer, listing: Any) -> Any:
    said = listing(hub)
    for sibling in said["siblings"]:
        sibling.pop("lfs", None)
    return said
