"""Messages of a release speak of keys: the table is held against every sentence that the program may say there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from click import Option

from quantrecipe.cli.app import app
from quantrecipe.cli.release.command import command
from quantrecipe.cli.release.wording import in_file_words, speaking_of_the_file
from quantrecipe.errors import PlanError, Problem

PACKAGE = Path(__file__).parents[3] / "quantrecipe"
SAID_IN_A_RELEASE = (
    "allocate", "calibration/chunks.py", "calibration/compute.py", "evaluate/reference.py", "fit", "importance",
    "measure/measurement.py", "measure/open_resident.py", "misplaced.py", "model/architectures", "model/huggingface.py",
    "model/open_model.py", "model/pickled.py", "model/tokenizer", "output/transform.py", "output/write_errors.py",
    "plan", "planning.py", "recipe", "sensitivity", "texts", "cli/fit/wishes.py", "cli/imatrix/calibrating.py",
)  # fmt: skip
ELSEWHERE = {
    "calibration/compute.py": "--all-experts and Gram matrices aren't asked for in a release",
    "cli/imatrix/calibrating.py": "--split isn't",
    "fit/measured_choice.py": "--verify isn't",
    "fit/open_recipe.py": "--floor isn't",
    "fit/reach.py": "--min-speed isn't",
    "fit/trial.py": "--verify isn't",
    "importance/merge.py": "matrices aren't merged",
    "plan/assign.py": "--strict isn't asked for",
    "plan/grafting.py": "nothing is grafted",
    "plan/review/lock_file.py": "locks are read by apply",
    "plan/review/recorded.py": "recorded recipes are for verify",
    "recipe/reading/requirements.py": "these are pip's options",
}
NEVER = {"--like and NAME exclude each other."}
"""What whoever reads the file has found before."""
OF_OTHERS = re.compile(r"(git|gh|pip|llama-\S+|\S*\.py|hf|python3?) [^;`]*")
"""Commands of other programs."""
OPTIONS = {opt for it in [*command.params, *app.params] if isinstance(it, Option) for opt in it.opts}
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")


def sentences(path: Path) -> Iterator[str]:
    """Every text in a module that isn't a docstring, with NAME where it has a value."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    alone = {id(it.value) for it in ast.walk(tree) if isinstance(it, ast.Expr)}
    parts = {id(part) for it in ast.walk(tree) if isinstance(it, ast.JoinedStr) for part in it.values}
    for node in ast.walk(tree):
        if id(node) in alone | parts:
            continue
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(it.value) if isinstance(it, ast.Constant) else "NAME" for it in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def spoken() -> Iterator[tuple[str, str]]:
    """Sentences with options in them, and where they stand."""
    for place in SAID_IN_A_RELEASE:
        root = PACKAGE / place
        for path in [root] if root.is_file() else sorted(root.rglob("*.py")):
            where = path.relative_to(PACKAGE).as_posix()
            for text in sentences(path):
                if _OPTION.search(text) and " " in text and where not in ELSEWHERE and text not in NEVER:
                    yield where, text


def test_no_message_speaks_of_an_option_that_release_has_not() -> None:
    told = list(spoken())
    assert len(told) > 30
    left = []
    for where, text in told:
        words = OF_OTHERS.sub("", re.sub(r"`quantrecipe [^`]*`", "", in_file_words(text)))
        left += [(where, text, option) for option in _OPTION.findall(words) if option not in OPTIONS]
    assert left == []


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("give one with --imatrix FILE", "give one with `imatrix:`"),
        ("give them names: --text one=a.txt", "give them names: `texts: [one=a.txt]`"),
        ("give --text more of it; a hundred chunks are better", "give `texts` more of it; a hundred chunks are better"),
        ("long ones too: --context 512,4096", "long ones too: `context: [512, 4096]`"),
        ("--set deep=1: the recipe has no such variable", "`set: deep=1`: the recipe has no such variable"),
        ("give them with --statistics FOLDER; `quantrecipe imatrix compute --gram FOLDER` makes them",
         "give them with `statistics: FOLDER`; `quantrecipe imatrix compute --gram FOLDER` makes them"),
        ("or say --raw, if it is meant to be read as it is", ""),
        ("save it as text, or say --raw, if it is meant to be read as it is", "save it as text"),
        ("use the matrix of this model, or insist with --imatrix-of-another-model (it often serves)",
         "use the matrix of this model"),
        ("say --allow-requantize if there is nothing else", "say --allow-requantize if there is nothing else"),
        ("a --context-like word, and pre--text", "a --context-like word, and pre--text"),
    ],
)  # fmt: skip
def test_what_a_sentence_becomes(said: str, meant: str) -> None:
    assert in_file_words(said) == meant


def test_errors_are_turned_and_keep_their_place() -> None:
    with pytest.raises(PlanError) as caught, speaking_of_the_file():
        raise PlanError([Problem(what="no matrix", remedy="give it as --imatrix", file="a.yaml", line=3)])
    assert str(caught.value) == "a.yaml:3: no matrix; give it as `imatrix`"
