"""Model cards of strangers: what they say more of than they are long is refused before gguf reads it."""

from __future__ import annotations

import time
from pathlib import Path

import gguf
import pytest

from quantrecipe.errors import ModelError
from quantrecipe.model.model_card import general_pairs


def said_by(folder: Path, front: str) -> dict[str, object]:
    (folder / "README.md").write_text(f"---\n{front}---\n# A model\n", encoding="utf-8")
    return {key: value.decode() for key, value in general_pairs(folder, "llama", (10**6, 0, 0, 0)).items()}


def aliases(levels: int, width: int) -> str:
    first = "a0: &a0 [x, x]\n"
    return first + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * width)}]\n" for i in range(1, levels))


@pytest.mark.parametrize("key", ["tags", "model_name", "base_model", "license"])
def test_aliases_of_aliases_are_refused_at_once(key: str, tmp_path: Path) -> None:
    """465 bytes, which would be gigabytes as text."""
    start = time.process_time()
    with pytest.raises(ModelError, match=r"README\.md: its front matter says more than 50,000 values"):
        said_by(tmp_path, f"{aliases(9, 9)}{key}: *a8\n")
    assert time.process_time() - start < 1


def test_aliases_of_long_texts_are_refused(tmp_path: Path) -> None:
    """Of few values, which would be megabytes as text."""
    front = f"a0: &a0 {'long' * 100}\n" + aliases(5, 9).partition("\n")[2]
    with pytest.raises(ModelError, match=r"README\.md: its front matter says more than 50,000 values"):
        said_by(tmp_path, f"{front}tags: *a4\n")


@pytest.mark.parametrize("end", ["\v", "\f", "\x1c", "\x85", "\u2028"])
def test_lines_end_as_gguf_reads_them(end: str, tmp_path: Path) -> None:
    """YAML's own reader refuses some of these signs, and then nobody would have counted."""
    front = f"---\n{aliases(9, 9)}tags: *a8\n---\n".replace("\n", end)
    (tmp_path / "README.md").write_text(front, encoding="utf-8")
    with pytest.raises(ModelError, match=r"README\.md: its front matter says more than 50,000 values"):
        general_pairs(tmp_path, "llama", (10**6, 0, 0, 0))


def test_tabs_are_blanks_as_for_gguf(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"README\.md: its front matter says more than 50,000 values"):
        said_by(tmp_path, f"x:\n\t- y\n{aliases(9, 9)}tags: *a8\n")


@pytest.mark.parametrize("sign", ["{x: &b [*b, *b], y: *b}", "&b [*b]", "&b {x: *b}"])
def test_what_holds_itself_ends(sign: str, tmp_path: Path) -> None:
    assert said_by(tmp_path, f"tags: {sign}\n")["general.architecture"] == "llama"


def test_a_few_aliases_are_what_they_stand_for(tmp_path: Path) -> None:
    found = said_by(tmp_path, "list: &a [code, small]\ntags: *a\nlicense: &b mit\nlicense_name: *b\n")
    assert (found["general.tags"], found["general.license"]) == (["code", "small"], "mit")


def test_a_long_front_matter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="its front matter has more than 1,048,576 characters"):
        said_by(tmp_path, "a: b\n" * 220_000)


def test_a_long_card_has_a_short_front_matter(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n" + "text\n" * 300_000)
    assert general_pairs(tmp_path, "llama", (10**6, 0, 0, 0))["general.license"].decode() == "mit"


@pytest.mark.parametrize(
    "front", [f"tags: {'[' * 101}x{']' * 101}\n", "- " * 101 + "x\n", "tags: " + "[" * 60_000 + "\n"]
)
def test_what_is_nested_deep_is_refused(front: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before gguf reads it, which takes it seconds."""
    monkeypatch.setattr(gguf.Metadata, "load", None)
    with pytest.raises(ModelError, match=r"README\.md: .* nested deeper than 100"):
        said_by(tmp_path, front)


def test_what_is_nested_as_deep_as_allowed_is_read(tmp_path: Path) -> None:
    found = said_by(tmp_path, f"other: {'[' * 90}x{']' * 90}\nlicense: mit\n")
    assert found["general.license"] == "mit"


@pytest.mark.parametrize(
    "front", ["license: [[a]]\n", "tags: " + "[" * 5000 + "\n", "license: " + "9" * 5000 + "\n"]
)
def test_what_gguf_stumbles_over_is_an_error_that_names_the_card(front: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"README\.md"):
        said_by(tmp_path, front)
