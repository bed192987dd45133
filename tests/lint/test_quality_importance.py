"""QR301: types that need an importance matrix that the recipe doesn't ask for."""

from pathlib import Path

import pytest
from support.linting import report, what

TEXT = """\
{head}
rules:
  - tensors: ffn_down
    type: {type}
    why: a
"""


def codes(folder: Path, head: str, type_: str) -> list[tuple[str, str]]:
    findings = report(folder, TEXT.format(head=head, type=type_)).findings
    return [(it.code, it.severity) for it in findings if it.code == "QR301"]


def test_how_serious_it_is_depends_on_the_type(tmp_path: Path) -> None:
    assert codes(tmp_path, "default: Q6_K", "IQ2_XXS") == [("QR301", "error")]
    assert codes(tmp_path, "default: Q6_K", "IQ3_XXS") == [("QR301", "warning")]
    assert codes(tmp_path, "default: Q6_K", "Q3_K") == []


@pytest.mark.parametrize(
    "head",
    ["importance: required", "importance: {file: imatrix.gguf}", "importance: {required: [IQ2_XXS]}"],
)
def test_a_recipe_that_asks_for_one_is_fine(tmp_path: Path, head: str) -> None:
    assert codes(tmp_path, head, "IQ2_XXS") == []


def test_inherited_types_are_told_at_the_extends(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(
        "quantrecipe: 1\nrules:\n  - {tensors: ffn_down, type: IQ2_XXS, why: a}\n"
    )
    (finding,) = (it for it in report(tmp_path, "extends: base.yaml\n").findings if it.code == "QR301")
    assert (finding.problem.file, finding.problem.line) == (str(tmp_path / "recipe.yaml"), 3)


def test_embeddings_which_calibration_leaves_out_don_t_count(tmp_path: Path) -> None:
    text = "rules:\n  - {tensors: token_embd, type: IQ3_XXS, why: a}\n"
    assert [it for it in report(tmp_path, text).findings if it.code == "QR301"] == []


def test_without_a_model_the_rules_tell(tmp_path: Path) -> None:
    assert "IQ2_XXS can't be made without" in what(
        tmp_path, TEXT.format(head="default: Q6_K", type="IQ2_XXS"), "QR301", []
    )
