"""Which files of a model are signed, and their checksums, as sha256sum reads them."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from quantrecipe.errors import SignatureError
from quantrecipe.output.signing.signed_files import checksums, checksums_text, files_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("m-00001-of-00002.gguf", "m-00002-of-00002.gguf", "alone.gguf", "sub/a.yaml", ".git/HEAD"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


def names(root: Path, files: list[Path]) -> list[str]:
    return [path.relative_to(root).as_posix() for path in files]


def test_a_single_file_is_its_own_root(folder: Path) -> None:
    assert files_of((folder / "alone.gguf",), ()) == (folder / "alone.gguf", [folder / "alone.gguf"])


def test_shards_and_files_beside_them_count_from_their_folder(folder: Path) -> None:
    root, files = files_of((folder / "m-00002-of-00002.gguf", folder / "sub/a.yaml"), ())
    assert root == folder
    assert names(root, files) == ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf", "sub/a.yaml"]


def test_links_lie_where_they_are(folder: Path) -> None:
    (folder / "cache").mkdir()
    for name in ("m.gguf", "m.yaml"):
        (folder / "cache" / name).symlink_to(folder / "alone.gguf")
    _, files = files_of((folder / "cache/m.gguf", folder / "cache/../cache/m.yaml"), ())
    assert names(folder, files) == ["cache/m.gguf", "cache/m.yaml"]


def test_of_a_folder_git_and_what_is_left_out_are_not_signed(folder: Path) -> None:
    root, files = files_of((folder,), (folder / "sub", folder / "model.sig"))
    assert names(root, files) == ["alone.gguf", "m-00001-of-00002.gguf", "m-00002-of-00002.gguf"]


@pytest.mark.parametrize(
    ("paths", "said"),
    [
        (["none.gguf"], "there is no such file"),
        (["alone.gguf", "none.yaml"], "there is no such file"),
        (["sub/a.yaml", "alone.gguf"], "isn't in the folder of a.yaml"),
        (["empty"], "has no files"),
    ],
)
def test_what_cannot_be_signed(paths: list[str], said: str, folder: Path) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(SignatureError, match=said):
        files_of([folder / name for name in paths], ())


def test_a_missing_shard(folder: Path) -> None:
    (folder / "m-00002-of-00002.gguf").unlink()
    with pytest.raises(SignatureError, match=r"m-00002-of-00002\.gguf is missing beside it"):
        files_of((folder / "m-00001-of-00002.gguf",), ())


def test_checksums_are_those_of_sha256sum(folder: Path) -> None:
    (folder / "odd\nname\\.txt").write_text("x")
    out = folder / "SHA256SUMS"
    found = checksums((folder,), leave_out=(out,), threads=2)
    assert found.files["alone.gguf"] == hashlib.sha256(b"alone.gguf").hexdigest()
    text = checksums_text(found, out)
    assert f"{found.files['alone.gguf']}  alone.gguf\n" in text
    out.write_text(text)
    if shutil.which("sha256sum"):
        command = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)


def test_names_count_from_the_folder_of_the_list(folder: Path) -> None:
    found = checksums((folder / "alone.gguf",))
    assert checksums_text(found, folder / "sub" / "SUMS").endswith("  ../alone.gguf\n")
