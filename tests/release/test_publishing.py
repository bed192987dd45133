"""Publishing a release, to a hub of this machine: what is sent, to whom, and what is refused."""

from __future__ import annotations

import hashlib
import json
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import huggingface_hub.constants
import huggingface_hub.utils._http as hub_http
import pytest
from click.testing import CliRunner, Result
from support.hub_server import REPO, Asked, HubServer

from quantrecipe.cli.app import app
from quantrecipe.errors import OutputError
from quantrecipe.release import publishing
from quantrecipe.release.hub_names import LARGEST_FILE
from quantrecipe.sha256sums import sums_text

# huggingface_hub uploads in a way that its HTTP library calls old.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")

MODEL, SECOND = "m-Q4_K_M.gguf", "m-Q8_0.gguf"
FILES = {MODEL: b"GGUF four bits", SECOND: b"GGUF eight bits", "recipes/m-Q4_K_M.yaml": b"quantrecipe: 1\n"}
CARD = b"---\nlicense: mit\n---\n\n# m\n"
NO_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
HUB_ITSELF = ".gitattributes"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub without the repository; nobody waits before another try."""
    with HubServer({HUB_ITSELF: b"*.gguf filter=lfs\n"}) as server:
        server.exists = False
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.endpoint)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(hub_http.time, "sleep", lambda seconds: None)
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        # Certificates take a while to load, and nothing here is encrypted.
        monkeypatch.setattr(ssl, "create_default_context", lambda *_, **__: NO_CERTIFICATES)
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A release."""
    path = tmp_path / "out"
    for name, data in FILES.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    write_sums(path)
    (path / "README.md").write_bytes(CARD)
    (path / ".quantrecipe-release").mkdir()
    (path / ".quantrecipe-release/record.json").write_text("{}", encoding="utf-8")
    return path


def write_sums(path: Path) -> None:
    sums = {name: hashlib.sha256((path / name).read_bytes()).hexdigest() for name in FILES}
    (path / "SHA256SUMS").write_text(sums_text(sums), encoding="utf-8")


def run(folder: Path, *options: str, repo: str = REPO) -> Result:
    return CliRunner().invoke(app, ["--no-plugins", "publish", str(folder), repo, *options])


def said(result: Result) -> str:
    return " ".join(result.output.split())


def oid(name: str) -> str:
    return hashlib.sha256(FILES[name]).hexdigest()


def test_first_it_is_shown_and_nothing_is_sent(hub: HubServer, folder: Path) -> None:
    result = run(folder)
    assert result.exit_code == 0, result.output
    assert f"{MODEL} 14 B new" in said(result)
    assert f"{REPO} isn't there, or isn't shown to you: it is made" in said(result)
    assert "to be sent: 5 files" in said(result)
    assert "nothing was sent: --yes does it" in said(result)
    assert {it.method for it in hub.asked} == {"GET"}
    assert not hub.exists


def test_all_of_it_in_one_commit(hub: HubServer, folder: Path) -> None:
    result = run(folder, "--yes")
    assert result.exit_code == 0, result.output
    assert hub.exists
    assert hub.files == {HUB_ITSELF: b"*.gguf filter=lfs\n", **FILES, "README.md": CARD} | {
        "SHA256SUMS": (folder / "SHA256SUMS").read_bytes()
    }
    assert hub.commits == [
        ("Upload 5 files of a release (2 GGUF)", sorted([*FILES, "README.md", "SHA256SUMS"]))
    ]
    assert sorted(hub.uploads()) == sorted([oid(MODEL), oid(SECOND)])
    assert f"the hub has {MODEL}" in said(result)
    assert f"published: {hub.endpoint}/{REPO}/commit/{hub.commit}" in said(result)


def test_nothing_is_published_twice(hub: HubServer, folder: Path) -> None:
    assert run(folder, "--yes").exit_code == 0
    hub.asked.clear()
    result = run(folder, "--yes")
    assert result.exit_code == 0, result.output
    assert f"{REPO} has all of it: nothing to do" in said(result)
    assert f"{MODEL} 14 B is there" in said(result)
    assert {it.method for it in hub.asked} == {"GET"}
    assert len(hub.commits) == 1


def test_only_what_changed_is_sent(hub: HubServer, folder: Path) -> None:
    assert run(folder, "--yes").exit_code == 0
    (folder / "README.md").write_bytes(CARD + b"better\n")
    hub.files["old.gguf"] = b"GGUF from before"
    hub.asked.clear()
    result = run(folder, "--yes", "-m", "A better card")
    assert result.exit_code == 0, result.output
    assert "only on the hub, and stay there: old.gguf" in said(result)
    assert hub.commits[1:] == [("A better card", ["README.md"])]
    assert hub.uploads() == []


def test_json_says_it_all(hub: HubServer, folder: Path) -> None:
    before = json.loads(run(folder, "--json").stdout)
    assert (before["exists"], before["sent"], before["commit"]) == (False, False, None)
    assert {it["path"]: it["on_hub"] for it in before["files"]} == dict.fromkeys(
        [*FILES, "README.md", "SHA256SUMS"], "new"
    )
    after = json.loads(run(folder, "--yes", "--json").stdout)
    assert (after["sent"], after["commit"]) == (True, f"{hub.endpoint}/{REPO}/commit/{hub.commit}")


def test_after_a_break_what_was_sent_is_not_sent_again(hub: HubServer, folder: Path) -> None:
    """The connection ends at the second file, however often it is tried."""
    sent: list[str] = []

    def trouble(asked: Asked) -> str | None:
        if asked.method != "PUT":
            return None
        sent.append(asked.path)
        return "drop" if len(set(sent)) > 1 else None

    hub.trouble = trouble
    result = run(folder, "--yes")
    assert result.exit_code == 1
    assert f"the hub can't be reached for {REPO}" in said(result)
    assert "check the connection, and run the same command: it goes on" in said(result)
    assert not hub.commits
    assert MODEL not in hub.files
    assert len(hub.storage) == 1
    (first,) = hub.storage
    hub.trouble = lambda asked: None
    hub.asked.clear()
    assert run(folder, "--yes").exit_code == 0
    assert hub.uploads() == [it for it in (oid(MODEL), oid(SECOND)) if it != first]
    assert hub.files[SECOND] == FILES[SECOND]
    assert len(hub.commits) == 1


def test_a_repository_that_stays_empty_is_told(hub: HubServer, folder: Path) -> None:
    """It has to be made before anything can be sent; a second run goes on with it."""
    hub.trouble = lambda asked: "drop" if asked.method == "PUT" else None
    result = run(folder, "--yes", "--private")
    assert result.exit_code == 1
    assert f"{REPO} was made, and is empty until everything is sent; the same command goes on" in said(result)
    assert hub.exists
    hub.trouble = lambda asked: 503 if asked.method == "PUT" else None
    result = run(folder, "--yes", "--private")
    assert "was made" not in said(result)
    hub.trouble = lambda asked: None
    assert run(folder, "--yes", "--private").exit_code == 0
    assert hub.files[MODEL] == FILES[MODEL]
    assert hub.private


def test_a_file_that_is_gone_while_it_is_sent(
    hub: HubServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trouble(asked: Asked) -> None:
        if "/preupload/" in asked.path:
            (folder / SECOND).unlink(missing_ok=True)

    hub.trouble = trouble
    result = run(folder, "--yes")
    assert result.exit_code == 1
    assert f"{SECOND}: can't be read: No such file or directory; run the same command again" in said(result)


@pytest.fixture
def xet(hub: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> HubServer:
    """The hub, to which hf_xet sends chunks, which it keeps in a folder."""
    pytest.importorskip("hf_xet")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", False)
    monkeypatch.setenv("HF_XET_CACHE", str(tmp_path / "xet"))
    hub.xet = f"local://{tmp_path / 'chunks'}"
    hub.chunked = {oid(name): FILES[name] for name in (MODEL, SECOND)}
    return hub


def test_with_hf_xet_chunks_are_sent(xet: HubServer, folder: Path, tmp_path: Path) -> None:
    result = run(folder, "--yes")
    assert result.exit_code == 0, result.output
    assert xet.uploads() == []
    assert any(
        FILES[MODEL] in path.read_bytes() for path in (tmp_path / "chunks").rglob("*") if path.is_file()
    )
    assert xet.files[MODEL] == FILES[MODEL]
    assert len(xet.commits) == 1
    xet.asked.clear()
    assert run(folder, "--yes").exit_code == 0
    assert not any("xet" in it.path for it in xet.asked)


def test_without_hf_xet_if_it_is_not_wanted(
    xet: HubServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HF_HUB_DISABLE_XET=1"""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    assert run(folder, "--yes").exit_code == 0
    assert sorted(xet.uploads()) == sorted([oid(MODEL), oid(SECOND)])
    assert not any("xet" in it.path for it in xet.asked)


def test_what_hf_xet_cannot_do_is_an_error_that_goes_on(xet: HubServer, folder: Path) -> None:
    xet.xet, there = "", xet.xet
    result = run(folder, "--yes")
    assert result.exit_code == 1
    assert f"the hub answered 404 for {REPO}; try again later: it goes on" in said(result)
    assert f"{REPO} was made, and is empty" in said(result)
    xet.xet = there
    assert run(folder, "--yes").exit_code == 0
    assert xet.files[SECOND] == FILES[SECOND]


@pytest.mark.parametrize("kind", [ConnectionError, RuntimeError, PermissionError])
def test_whatever_hf_xet_raises(
    xet: HubServer, folder: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise kind("Network error: no route")

    monkeypatch.setattr(huggingface_hub.HfApi, "preupload_lfs_files", fails)
    result = run(folder, "--yes")
    assert result.exit_code == 1
    assert f"the hub can't be reached for {REPO}: Network error: no route; check the connection" in said(
        result
    )
    assert "HF_HUB_DISABLE_XET=1 uploads without hf_xet" in said(result)


def test_a_break_that_passes_is_not_noticed(hub: HubServer, folder: Path) -> None:
    count = 0

    def trouble(asked: Asked) -> str | int | None:
        nonlocal count
        count += asked.method == "PUT"
        return {1: "drop", 2: 503}.get(count) if asked.method == "PUT" else None

    hub.trouble = trouble
    assert run(folder, "--yes").exit_code == 0
    assert hub.files[MODEL] == FILES[MODEL]


@pytest.mark.parametrize(
    ("where", "status", "what"),
    [
        ("/api/repos/create", 401, "the hub doesn't know who you are; run `hf auth login`"),
        ("/api/repos/create", 403, f"you may not write to {REPO}"),
        ("/api/repos/create", 429, "the hub answered 429 (too many requests); wait some minutes"),
        ("/commit/", 409, f"{REPO} has changed meanwhile; run the same command again"),
        ("/commit/", 500, f"the hub answered 500 for {REPO}"),
        ("/preupload/", 403, f"you may not write to {REPO}"),
        ("/batch", 429, "the hub answered 429 (too many requests)"),
        ("/upload/", 403, f"you may not write to {REPO}"),
    ],
)
def test_what_the_hub_refuses(hub: HubServer, folder: Path, where: str, status: int, what: str) -> None:
    hub.trouble = lambda asked: status if where in asked.path else None
    result = run(folder, "--yes")
    assert result.exit_code == 1, result.output
    assert what in said(result)
    assert not hub.commits


def test_a_hub_that_answers_nothing(hub: HubServer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "_PATIENCE", 0.05)
    hub.trouble = lambda asked: "hang" if "/create" in asked.path else None
    result = run(folder, "--yes")
    assert result.exit_code == 1
    assert f"the hub can't be reached for {REPO}: timed out" in said(result)


def test_a_hub_that_is_not_there(hub: HubServer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    result = run(folder)
    assert result.exit_code == 1
    assert f"the hub can't be reached for {REPO}" in said(result)


def test_the_repository_changes_meanwhile(hub: HubServer, folder: Path) -> None:
    """Somebody else commits while this uploads: nothing of theirs is undone unseen."""

    def trouble(asked: Asked) -> None:
        if asked.method == "PUT":
            hub.commit = "f" * 40

    hub.trouble = trouble
    result = run(folder, "--yes")
    assert result.exit_code == 1
    assert f"{REPO} has changed meanwhile" in said(result)
    assert not hub.commits


def test_the_token_goes_to_the_hub_alone(hub: HubServer, folder: Path) -> None:
    """Even where the hub's answer names another host for what is usually asked of the hub."""
    hub.writer = "hf_secret"
    hub.verify = hub.elsewhere.replace("/cdn", "/verify")
    assert run(folder, "--yes").exit_code == 0
    tokens: dict[str, set[str]] = {}
    for asked in hub.asked:
        tokens.setdefault(asked.host, set()).add(asked.token)
    assert tokens == {"127.0.0.1": {"Bearer hf_secret"}, "localhost": {""}}
    assert [it.host for it in hub.asked if it.path == "/verify"] == ["localhost", "localhost"]


def test_afterwards_huggingface_hub_is_as_it_was(hub: HubServer, folder: Path) -> None:
    """Its client has no more hooks than before, and waits as it did."""
    before = huggingface_hub.get_session()
    assert run(folder).exit_code == 0
    after = huggingface_hub.get_session()
    assert after.event_hooks == before.event_hooks
    assert after.timeout == before.timeout


@pytest.mark.parametrize(("option", "private"), [("--private", True), ("--public", False)])
def test_who_sees_it(hub: HubServer, folder: Path, option: str, private: bool) -> None:
    assert run(folder, option, "--yes").exit_code == 0
    assert hub.private is private
    other = "--public" if private else "--private"
    result = run(folder, other, "--yes")
    assert result.exit_code == 1
    assert f"{REPO} is there, and is {option.removeprefix('--')}; leave out {other}" in said(result)


def test_front_matter_that_the_hub_refuses(hub: HubServer, folder: Path) -> None:
    (folder / "README.md").write_text("---\ntags: [x]\n---\n", encoding="utf-8")
    result = run(folder, "--yes")
    assert result.exit_code == 1
    assert 'Invalid metadata in README.md. - "license" is required' in said(result)
    assert not hub.exists
    assert hub.uploads() == []


def damaged(folder: Path) -> None:
    (folder / MODEL).write_bytes(b"GGUF other bits")


def without_a_file(folder: Path) -> None:
    (folder / SECOND).unlink()


def without_a_card(folder: Path) -> None:
    (folder / "README.md").unlink()


def without_sums(folder: Path) -> None:
    (folder / "SHA256SUMS").unlink()


def with_odd_sums(folder: Path) -> None:
    lines = [f"{'0' * 64}  ../x", "no line", f"{'0' * 64}  {MODEL}", f"{'1' * 64}  {MODEL}"]
    (folder / "SHA256SUMS").write_text("\n".join(lines), encoding="utf-8")


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (damaged, [f"{MODEL}: has other bytes than SHA256SUMS says; run `quantrecipe release` again"]),
        (without_a_file, [f"{SECOND}: is in SHA256SUMS and isn't there"]),
        (without_a_card, ["README.md: there is no model card"]),
        (without_sums, ["SHA256SUMS: can't be read: No such file or directory"]),
        (
            with_odd_sums,
            [
                "SHA256SUMS:1: '../x' is in a folder that the hub keeps for itself",
                "SHA256SUMS:2: is no line of sha256sum",
                f"SHA256SUMS:4: {MODEL} is there twice",
            ],
        ),
    ],
)
def test_a_folder_that_is_refused(
    hub: HubServer, folder: Path, spoil: Callable[[Path], None], what: list[str]
) -> None:
    spoil(folder)
    result = run(folder, "--yes")
    assert result.exit_code == 1
    assert all(it in said(result) for it in what), result.output
    assert hub.asked == []


def test_files_that_are_too_large(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert LARGEST_FILE == 50 * 10**9
    monkeypatch.setattr(publishing, "LARGEST_FILE", 14)
    with pytest.raises(OutputError) as caught:
        publishing.local_files(folder)
    assert [str(it.file).rpartition("/")[2] for it in caught.value.problems] == [SECOND, "m-Q4_K_M.yaml"]


@pytest.mark.parametrize("repo", ["name", "a/b/c", "-a/b", "a/b.git", "a/b--c", "a/ü", f"a/{'b' * 97}"])
def test_names_that_the_hub_refuses(hub: HubServer, folder: Path, repo: str) -> None:
    result = CliRunner().invoke(app, ["--no-plugins", "publish", "--yes", "--", str(folder), repo])
    assert result.exit_code == 1
    assert "write OWNER/NAME, such as me/My-Model-7B-GGUF" in said(result)
    assert hub.asked == []


def test_another_owner(hub: HubServer, folder: Path) -> None:
    result = run(folder, "--yes", repo="somebody/else")
    assert result.exit_code == 1
    assert "you may not write to somebody/else (You don't have the rights to create a model)" in said(result)
