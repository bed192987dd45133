"""Recipes at a revision of git: with what they extend there, and never what is there now."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from quantrecipe.errors import RecipeError
from quantrecipe.recipe.load import load_recipe
from quantrecipe.recipe.reading.file_tree import find_revision, is_revision, read_revision
from quantrecipe.registry import Registry, load_registry

BASE = "quantrecipe: 1\nname: base\ndefault: {}\n"
CHILD = (
    "quantrecipe: 1\nname: child\nextends: ../base.yaml\nrules:\n  - {tensors: attn_v, type: Q6_K, why: x}\n"
)


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


def git(*arguments: str) -> None:
    who = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *who, *arguments], check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two commits and an edit: default Q4_K, then Q5_K, then (staged) Q8_0, then (not staged) nothing that loads."""
    monkeypatch.chdir(tmp_path)
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    git("init", "-q", "-b", "main")
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "child.yaml").write_text(CHILD, encoding="utf-8")
    for default in ("Q4_K", "Q5_K"):
        (tmp_path / "base.yaml").write_text(BASE.format(default), encoding="utf-8")
        git("add", ".")
        git("commit", "-q", "-m", default)
    (tmp_path / "base.yaml").write_text(BASE.format("Q8_0"), encoding="utf-8")
    git("add", ".")
    (tmp_path / "base.yaml").write_text("broken: [", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("ref", "default"),
    [
        ("main~1:recipes/child.yaml", "Q4_K"),
        ("HEAD:recipes/child.yaml", "Q5_K"),
        ("main:recipes/child.yaml", "Q5_K"),
        (":recipes/child.yaml", "Q8_0"),
    ],
)
def test_parents_are_read_at_the_same_revision(
    repository: Path, registry: Registry, ref: str, default: str
) -> None:
    recipe = load_recipe(ref, registry=registry)
    assert recipe.default == default
    assert recipe.rules[0].origin.file == ref
    assert recipe.default_origin is not None
    assert str(recipe.default_origin) == f"{ref.split(':')[0]}:base.yaml:3"


def test_paths_from_the_current_folder(
    repository: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository / "recipes")
    assert load_recipe("main:./child.yaml", registry=registry).default == "Q5_K"
    assert load_recipe("main:recipes/child.yaml", registry=registry).default == "Q5_K"


def test_shipped_parents_are_those_that_are_installed(repository: Path, registry: Registry) -> None:
    (repository / "mine.yaml").write_text("quantrecipe: 1\nextends: llama.cpp/Q4_K_M\n", encoding="utf-8")
    git("add", "mine.yaml")
    assert (
        load_recipe(":mine.yaml", registry=registry).digest
        == load_recipe("llama.cpp/Q4_K_M", registry=registry).digest
    )


def test_links_are_followed_within_the_revision(repository: Path, registry: Registry) -> None:
    (repository / "link.yaml").symlink_to("recipes/child.yaml")
    (repository / "out.yaml").symlink_to("/etc/hostname")
    git("add", ".")
    git("commit", "-q", "-m", "links")
    assert read_revision("main:link.yaml", 1000) == CHILD.encode()
    with pytest.raises(RecipeError):
        read_revision("main:out.yaml", 1000)


@pytest.mark.parametrize(
    ("ref", "said"),
    [
        ("main:nothing.yaml", "main:nothing.yaml: there is no such file at this revision"),
        ("main:recipes", "main:recipes: this is a folder"),
        ("nowhere:base.yaml", "git knows no revision 'nowhere'"),
        ("--help:base.yaml", "is no path at a revision"),
        ("main:../../etc/passwd", "there is no such file at this revision"),
        ("main:a\nHEAD:base.yaml", "is no path at a revision"),
    ],
)
def test_what_is_not_there(repository: Path, registry: Registry, ref: str, said: str) -> None:
    with pytest.raises(RecipeError) as error:
        load_recipe(ref, registry=registry)
    assert said in str(error.value)


def test_a_parent_that_isn_t_there_yet(repository: Path, registry: Registry) -> None:
    text = CHILD.replace("../base.yaml", "../later.yaml")
    (repository / "recipes" / "child.yaml").write_text(text, encoding="utf-8")
    git("add", "recipes")
    (repository / "later.yaml").write_text(BASE.format("Q4_K"), encoding="utf-8")
    with pytest.raises(RecipeError, match=r"there is no recipe file ':later\.yaml'"):
        load_recipe(":recipes/child.yaml", registry=registry)


def test_files_come_first(repository: Path) -> None:
    assert is_revision("main:base.yaml")
    (repository / "main:base.yaml").write_text("x", encoding="utf-8")
    assert not is_revision("main:base.yaml")
    assert not is_revision("https://example.org/x.yaml")
    assert not is_revision("recipe.yaml")


def test_outside_of_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, registry: Registry) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(RecipeError, match=r"not a git repository"):
        load_recipe("main:x.yaml", registry=registry)


def test_without_git(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(RecipeError, match="git isn't installed"):
        find_revision("main:base.yaml")


def test_only_so_much_is_read(repository: Path) -> None:
    assert read_revision("main:base.yaml", 5) == b"quant"


@pytest.mark.parametrize("path", ["./child.yaml", "../recipes/child.yaml", "recipes/child.yaml"])
def test_dots_go_from_the_current_folder_and_all_else_from_the_root(
    repository: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.chdir(repository / "recipes")
    _, found = find_revision(f"main:{path}")
    assert found == repository / "recipes/child.yaml"
    assert read_revision(f"main:{path}", 1000) == CHILD.encode()
