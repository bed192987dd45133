"""quantrecipe ci, in real git repositories: what changed, what extends it, what it does to models."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.repositories import Repository

from quantrecipe.cli import main
from quantrecipe.cli.ci.changed_recipes import Change, branching_point, changed_recipes
from quantrecipe.errors import RecipeError

Output = pytest.CaptureFixture[str]

HEAD = "rules:\n  - tensors: head\n    type: {type}\n    why: logits\n"
MODELS = ["--model", "shapes/qwen3-0.6b", "--model", "shapes/qwen3-30b-a3b"]


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """main has a recipe, a child and a grandchild of it, two others, and YAML that is no recipe; we are on a branch."""
    made = Repository(tmp_path / "repository")
    made.write(
        base="extends: llama.cpp/Q4_K_M\n" + HEAD.format(type="Q6_K"),
        child="extends: base.yaml\n",
        grandchild="extends: [child.yaml, pure/Q8_0]\n",
        other="default: Q8_0\n",
        gone="default: Q5_K\n",
    )
    (made.folder / "compose.yaml").write_text("services: {}\n", encoding="utf-8")
    made.commit("the beginning")
    made.git("switch", "--quiet", "--create", "work")
    monkeypatch.chdir(made.folder)
    return made


def changes(base: str = "main") -> dict[str, tuple[str, str | None, tuple[str, ...]]]:
    found = changed_recipes(branching_point(base))
    return {it.path: (it.kind, it.old, it.through) for it in found}


def test_every_kind_of_change_is_found(repository: Repository) -> None:
    repository.write(
        base="extends: llama.cpp/Q4_K_M\n" + HEAD.format(type="Q8_0"),
        new="default: Q6_K\n",
    )
    repository.git("mv", "recipes/other.yaml", "recipes/renamed.yaml")
    repository.git("rm", "--quiet", "recipes/gone.yaml")
    (repository.folder / "compose.yaml").write_text("services: {a: b}\n", encoding="utf-8")
    repository.commit()
    parent = "recipes/base.yaml"
    assert changes() == {
        parent: ("changed", parent, ()),
        "recipes/child.yaml": ("inherits", "recipes/child.yaml", (parent,)),
        "recipes/gone.yaml": ("removed", "recipes/gone.yaml", ()),
        "recipes/grandchild.yaml": ("inherits", "recipes/grandchild.yaml", (parent,)),
        "recipes/new.yaml": ("added", None, ()),
        "recipes/renamed.yaml": ("renamed", "recipes/other.yaml", ()),
    }


def test_what_others_did_to_the_base_since_is_not_ours(repository: Repository) -> None:
    repository.write(new="default: Q6_K\n")
    repository.commit()
    repository.git("switch", "--quiet", "main")
    repository.write(other="default: Q4_0\n")
    repository.commit("somebody else")
    repository.git("switch", "--quiet", "work")
    assert list(changes()) == ["recipes/new.yaml"]


def test_what_is_not_committed_counts_too(repository: Repository) -> None:
    repository.write(other="default: Q4_0\n")
    assert list(changes()) == ["recipes/other.yaml"]
    assert list(changes("HEAD")) == ["recipes/other.yaml"]


def test_in_a_folder_of_the_repository(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    repository.write(other="default: Q4_0\n")
    repository.commit()
    monkeypatch.chdir(repository.folder / "recipes")
    assert changes() == {"other.yaml": ("changed", "other.yaml", ())}
    assert main(["ci", "--base", "main", *MODELS]) == 0


def test_a_removed_parent_reaches_its_children(repository: Repository, capsys: Output) -> None:
    repository.git("rm", "--quiet", "recipes/base.yaml")
    repository.commit()
    assert list(changes()) == ["recipes/base.yaml", "recipes/child.yaml", "recipes/grandchild.yaml"]
    assert main(["ci", "--base", "main", *MODELS]) == 1
    assert (
        "error: recipes/child.yaml:3: there is no recipe file 'recipes/base.yaml'" in capsys.readouterr().err
    )


def test_odd_file_names(repository: Repository) -> None:
    path = os.fsdecode("recipes/a b ü\n.yaml".encode())  # the same bytes in any locale
    (repository.folder / path).write_text("quantrecipe: 1\nname: odd\n", encoding="utf-8")
    repository.commit()
    assert changed_recipes("main") == [Change(kind="added", path=path)]


def test_text(repository: Repository, capsys: Output) -> None:
    repository.write(base="extends: llama.cpp/Q4_K_M\n" + HEAD.format(type="Q8_0"), new="default: Q6_K\n")
    repository.commit()
    assert main(["ci", "--base", "main", *MODELS]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "recipes/base.yaml: changed"
    assert lines[1].startswith("  shapes/qwen3-0.6b: +") and lines[1].endswith("1 of 311 tensors changes")
    assert "recipes/child.yaml: inherits through recipes/base.yaml" in lines
    assert any(line.startswith("  shapes/qwen3-0.6b: 6.56 bits per weight, ") for line in lines)
    assert lines[-1] == "4 recipes: nothing to say"


def test_findings_are_annotations_and_fail_the_job(repository: Repository, capsys: Output) -> None:
    repository.write(new="defautl: Q6_K\n", low=HEAD.format(type="Q4_K"))
    repository.commit()
    assert main(["ci", "--base", "main", "--format", "github", *MODELS]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("::notice file=recipes/low.yaml,line=4,title=QR302::")
    assert lines[1].startswith("::error file=recipes/new.yaml,line=3,col=1,title=QR002::")


def test_fail_on_and_strict(repository: Repository) -> None:
    repository.write(new="rules:\n  - tensors: head\n    type: Q8_0\n")
    repository.commit()
    assert main(["ci", "--base", "main", *MODELS]) == 0
    assert main(["ci", "--base", "main", "--fail-on", "warning", *MODELS]) == 1
    assert main(["ci", "--base", "main", "--strict", *MODELS]) == 1


def test_the_comment(repository: Repository, tmp_path: Path) -> None:
    repository.write(
        base="extends: llama.cpp/Q4_K_M\n" + HEAD.format(type="Q8_0"),
        new="default: Q6_K\n",
        low="rules:\n  - tensors: head\n    type: Q4_K\n",
    )
    repository.git("rm", "--quiet", "recipes/gone.yaml")
    repository.commit()
    file = tmp_path / "comment.md"
    assert main(["ci", "--base", "main", "--comment", str(file), *MODELS]) == 0
    text = file.read_text(encoding="utf-8")
    assert text.startswith("<!-- quantrecipe -->\n\n## Recipes\n")
    assert "**2 added, 1 changed, 1 removed, 2 more through `extends`** · 🟠 1 warning, 🔵 1 advice" in text
    assert "- 🟠 **QR101** `recipes/low.yaml:4`: the rule gives no reason" in text
    assert "### `recipes/base.yaml`: changed\n\n| model |" in text
    assert "| `output` |  | 1 | Q6_K | **Q8_0** |" in text
    assert "### `recipes/child.yaml`: through `recipes/base.yaml`\n\n- `shapes/qwen3-0.6b`: " in text
    assert "### `recipes/new.yaml`: added\n\n| model | bits/weight | size |" in text
    assert "### `recipes/gone.yaml`: removed\n\nIt is gone." in text
    assert "importance" not in text  # which is only assumed
    assert repository.git("rev-parse", "main") not in text


def test_the_same_change_gives_the_same_comment(repository: Repository, tmp_path: Path) -> None:
    repository.write(other="default: Q4_0\n")
    repository.commit()
    first, second = tmp_path / "a.md", tmp_path / "b.md"
    main(["ci", "--base", "main", "--comment", str(first), *MODELS])
    repository.commit("nothing more")
    main(["ci", "--base", "main", "--comment", str(second), *MODELS])
    assert first.read_text(encoding="utf-8") == second.read_text(encoding="utf-8")


def test_nothing_changed(repository: Repository, tmp_path: Path, capsys: Output) -> None:
    file = tmp_path / "comment.md"
    assert main(["ci", "--base", "main", "--comment", str(file)]) == 0
    assert capsys.readouterr().out == "no recipe changes\n"
    assert "No recipe changes." in file.read_text(encoding="utf-8")


def test_without_models_one_of_each_kind_is_compared(repository: Repository, capsys: Output) -> None:
    repository.write(other="default: Q4_0\n")
    assert main(["ci", "--base", "main"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  shapes/")]
    assert len(lines) == 4


@pytest.mark.parametrize("base", ["nowhere", "--upload-pack=x", ""])
def test_revisions_that_there_aren_t(repository: Repository, base: str, capsys: Output) -> None:
    assert main(["ci", f"--base={base}"]) == 1
    assert "revision" in capsys.readouterr().err


def test_where_there_is_no_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(RecipeError):
        branching_point("main")


def test_histories_without_a_common_commit(repository: Repository, capsys: Output) -> None:
    repository.git("switch", "--quiet", "--orphan", "alone")
    repository.write(new="default: Q6_K\n")
    repository.commit()
    assert main(["ci", "--base", "main"]) == 1
    assert "no commit in common; a shallow clone has too few" in capsys.readouterr().err
