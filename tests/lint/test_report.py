"""lint: what can't be loaded has codes too; order; which reference models a recipe fits."""

from dataclasses import replace
from pathlib import Path

import pytest
from support.linting import REFERENCE, REGISTRY, TARGETS, found, reference, report

from quantrecipe.lint import CODES, lint, worst
from quantrecipe.lint.report import lint_text


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        ("defautl: Q4_K\n", "QR002", 3),
        ("rules:\n  - {tensors: a, type: Q4_K, wyh: b}\n", "QR002", 4),
        ("default: Q4K\n", "QR003", 3),
        ("default: Q4_0_4_4\n", "QR003", 3),  # removed from ggml
        ("default: IQ4_KS\n", "QR003", 3),  # of a plugin
        ("default: [\n", "QR004", 4),
        ("summary: a\nsummary: b\n", "QR004", 4),
        ("name: 012\n", "QR004", 3),  # there is a name already
        ("summary: 012\n", "QR005", 3),
        ("summary: true\n", "QR005", 3),
        ("rules:\n  - {tensors: a, type: Q4_K, optional: yes}\n", "QR005", 4),
        ("extends: nowhere.yaml\n", "QR001", 3),
    ],
)
def test_what_can_t_be_loaded(tmp_path: Path, text: str, code: str, line: int) -> None:
    assert (code, "error", line) in found(tmp_path, text)


def test_what_isn_t_there() -> None:
    checked = lint("nowhere.yaml", registry=REGISTRY, targets=TARGETS)
    assert checked.recipe is None
    assert [it.code for it in checked.findings] == ["QR001"]


def test_findings_are_in_the_order_of_lines_the_worst_first(tmp_path: Path) -> None:
    text = "default: IQ2_XXS\nrules:\n  - {tensors: ffn_dwon, type: Q4_K}\n"
    checked = report(tmp_path, text)
    lines = [it.problem.line or 0 for it in checked.findings]
    assert lines == sorted(lines)
    assert checked.findings[0].severity == worst(checked.findings) == "error"
    assert all(it.code in CODES for it in checked.findings)


def test_fits(tmp_path: Path) -> None:
    checked = report(tmp_path, "rules:\n  - {tensors: ffn_down_exps, type: Q6_K, why: a}\n", reference())
    assert checked.checked == REFERENCE
    assert checked.fits == ("shapes/qwen3-30b-a3b",)


@pytest.mark.parametrize("name", ["llama.cpp/Q4_K_M", "llama.cpp/IQ2_M", "quantrecipe/code-model"])
def test_shipped_recipes_have_nothing_worse_than_advice(name: str) -> None:
    checked = lint(name, registry=REGISTRY, targets=TARGETS, models=reference())
    assert worst(checked.findings) in (None, "advice")


def test_many_rules_are_checked_on_fewer_reference_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quantrecipe.lint.report._MOST_QUESTIONS", 70_000)
    text = "rules:\n" + "".join(
        f"  - {{tensors: 'blk.{n % 28}.ffn_*{n}', type: Q6_K, why: a, optional: true}}\n" for n in range(100)
    )
    checked = report(tmp_path, text).checked
    assert checked == ("shapes/qwen3-0.6b", "shapes/meta-llama-3.1-8b-instruct")  # 311 and 291 tensors
    given = replace(reference("shapes/qwen3.6-27b")[0], reference=False)
    assert report(tmp_path, text, [given]).checked == ("shapes/qwen3.6-27b",)


class TestText:
    """A recipe that is no file yet."""

    def test_the_same_findings_as_of_a_file(self, tmp_path: Path) -> None:
        text = "quantrecipe: 1\nname: x\ndefault: IQ2_XXS\nrules:\n  - {tensors: ffn_dwon, type: Q4_K}\n"
        (tmp_path / "x.yaml").write_text(text)
        of_file = lint(str(tmp_path / "x.yaml"), registry=REGISTRY, targets=TARGETS)
        of_text = lint_text(text, file="x.yaml", folder=tmp_path, registry=REGISTRY, targets=TARGETS)
        assert of_file.findings
        assert [(it.code, it.problem.line, it.problem.what) for it in of_text.findings] == [
            (it.code, it.problem.line, it.problem.what) for it in of_file.findings
        ]
        assert {str(it.problem.file) for it in of_text.findings} == {"x.yaml"}

    def test_what_can_t_be_loaded(self, tmp_path: Path) -> None:
        found = lint_text("defautl: 1\n", file="x.yaml", folder=tmp_path, registry=REGISTRY, targets=TARGETS)
        assert (found.recipe, found.ok) == (None, False)

    def test_files_beside_it(self, tmp_path: Path) -> None:
        (tmp_path / "parent.yaml").write_text("quantrecipe: 1\ndefault: Q4_K\n")
        text = "quantrecipe: 1\nextends: parent.yaml\n"
        found = lint_text(text, file="x.yaml", folder=tmp_path, registry=REGISTRY, targets=TARGETS)
        assert found.recipe is not None and found.recipe.default == "Q4_K"
