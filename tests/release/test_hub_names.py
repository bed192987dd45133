"""Names that the hub takes: ours are never more than huggingface_hub's own."""

from __future__ import annotations

import pytest
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from hypothesis import given
from hypothesis import strategies as st

from quantrecipe.release.hub_names import file_name_problem, path_problem, repo_problem


@given(
    st.text("aB1-_./ ü", max_size=12) | st.from_regex(r"[a-z.-]{1,4}/[a-z._-]{1,6}(\.git)?", fullmatch=True)
)
def test_what_is_taken_here_is_taken_there(repo: str) -> None:
    if not repo_problem(repo):
        validate_repo_id(repo)


@pytest.mark.parametrize("repo", ["me/My-Model_7B.v2-GGUF", "a/b", "0rg/1"])
def test_usual_names_are_taken(repo: str) -> None:
    validate_repo_id(repo)
    assert repo_problem(repo) == ""


@pytest.mark.parametrize("repo", ["-a/b", "a/b-", "a/b.git", "a/b--c", "a/b..c", f"a/{'b' * 97}"])
def test_what_the_hub_refuses_is_refused_before(repo: str) -> None:
    assert repo_problem(repo)
    with pytest.raises(HFValidationError):
        validate_repo_id(repo)


def test_names_of_files() -> None:
    assert file_name_problem("My-Model-7B-Q4_K_M.gguf") == ""
    for name in ("a b.gguf", "ü.gguf", ".gguf", "-a.gguf", "a/b.gguf", f"{'a' * 197}.gguf"):
        assert file_name_problem(name), name


def test_paths_of_files() -> None:
    assert path_problem("recipes/a.yaml") == ""
    for path in ("../a", "a/../b", "/a", ".git/config", "a/.cache/b", "a\\b", "a\nb", ""):
        assert path_problem(path), path
