"""Folders and globs: texts in order of their names, and what isn't read is named with a reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from quantrecipe.errors import TextError
from quantrecipe.texts.files import files_of

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as a programmer has it."""
    files: dict[str, bytes] = {
        "src/b.py": b"b = 1\n",
        "src/a.py": b"a = 1\n",
        "src/a/deep.rs": b"fn main() {}\n",
        "src/Makefile": b"all:\n\techo\n",
        "src/empty.py": b"\n",
        "src/page.html": b"<!doctype html><p>source of a page",
        "src/package.json": b'{"name": "x"}',
        "src/logo.png": PNG,
        "src/named.md": bytes(64),
        "src/old.txt": "naïve".encode("latin-1"),
        "src/data.csv": b"a,b\n1,2\n",
        "src/package-lock.json": b"{}",
        "src/x.min.js": b"x",
        "src/.hidden/a.py": b"hidden",
        "src/.env": b"SECRET=1",
        "src/node_modules/x/a.js": b"made",
        "src/__pycache__/a.py": b"made",
        "src/env/pyvenv.cfg": b"home = /usr",
        "src/env/lib/a.py": b"made",
        "src/target/CACHEDIR.TAG": b"Signature: 8a477f597d28d172789f06886806bc55",
        "src/target/a.rs": b"made",
    }
    for name, data in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    monkeypatch.chdir(tmp_path)
    return tmp_path


READ = ["Makefile", "a/deep.rs", "a.py", "b.py", "package.json", "page.html"]


def test_a_folder_has_its_texts_in_order_of_names(project: Path) -> None:
    files, left_out = files_of("src")
    assert [file.path.as_posix() for file in files] == [f"src/{name}" for name in READ]
    assert all(file.found and file.data == file.path.read_bytes() for file in files)
    assert {name.removeprefix("src/"): reason for name, reason in left_out.items()} == {
        "data.csv": "data, or made by a program",
        "package-lock.json": "data, or made by a program",
        "x.min.js": "data, or made by a program",
        "empty.py": "empty",
        "logo.png": "is a picture",
        "named.md": "looks like text in UTF-16BE",
        "old.txt": "isn't text in UTF-8: byte 2 is 0xef",
    }


def test_a_glob_has_what_it_matches(project: Path) -> None:
    files, left_out = files_of("src/**/*.py")
    assert [file.path.as_posix() for file in files] == ["src/a.py", "src/b.py"]
    assert left_out == {"src/empty.py": "empty"}
    assert [file.path.name for file in files_of(f"{project}/src/?.py")[0]] == ["a.py", "b.py"]


def test_a_file_that_is_named_is_read_whatever_it_is(project: Path) -> None:
    for name in ("src/data.csv", "src/.env", "src/node_modules/x/a.js", "src/logo.png"):
        files, left_out = files_of(name)
        assert [(file.data, file.found) for file in files] == [((project / name).read_bytes(), False)]
        assert left_out == {}


def test_a_name_with_signs_of_globs_is_a_name(project: Path) -> None:
    Path("a[1].txt").write_text("x", encoding="utf-8")
    assert [file.path.name for file in files_of("a[1].txt")[0]] == ["a[1].txt"]


def test_nothing_is_an_error_that_says_what_was_seen(project: Path) -> None:
    Path("void").mkdir()
    Path("pictures").mkdir()
    Path("pictures/a.png").write_bytes(PNG)
    for named, what in {
        "void": "the folder has no files, or only hidden ones",
        "*.xyz": "the glob matches no file",
        "pictures": r"the folder has no text: a\.png \(is a picture\)",
        "nothing.txt": "the text can't be read",
    }.items():
        with pytest.raises(TextError, match=what) as caught:
            files_of(named)
        assert str(caught.value.problems[0].file) == named


def test_links_to_folders_are_not_followed(project: Path) -> None:
    try:
        Path("src/a/again").symlink_to(project / "src", target_is_directory=True)
    except OSError:
        pytest.skip("this system makes no links")
    assert [file.path.as_posix() for file in files_of("src")[0]] == [f"src/{name}" for name in READ]
