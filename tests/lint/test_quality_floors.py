"""QR302: types below what is advised for a role; the advice itself is sourced."""

from pathlib import Path

import pytest
from support.linting import REGISTRY, found, reference, what

from quantrecipe.lint.quality import advised_floors, advised_yardsticks
from quantrecipe.recipe.load import load_recipe


@pytest.mark.parametrize(
    ("tensors", "type_", "low"),
    [
        ("head", "Q4_K", True),
        ("head", "Q5_K", False),
        ("attn_v", "Q2_K", True),
        ("attn_v", "Q3_K", False),
        ("ssm_out", "Q3_K", True),
        ("ssm_out", "IQ4_XS", False),
        ("ffn_gate_inp", "Q8_0", True),
        ("ffn_gate_inp", "F16", False),
        ("ffn_down", "Q2_K", False),  # nothing is advised
    ],
)
def test_rules(tmp_path: Path, tensors: str, type_: str, low: bool) -> None:
    text = f"rules:\n  - {{tensors: {tensors}, type: {type_}, why: a}}\n"
    expected = [("QR302", "advice", 4)] if low else []
    assert found(tmp_path, text) == expected


def test_the_reason_and_the_source_are_told(tmp_path: Path) -> None:
    said = what(tmp_path, "rules:\n  - {tensors: ssm_out, type: Q3_K, why: a}\n", "QR302")
    assert said.startswith("Q3_K for ssm_out (on shapes/qwen3.6-27b) is below the 4.25 bits per weight")
    assert "errors in a recurrent state pile up over the tokens; source: " in said


def test_the_default_counts_too(tmp_path: Path) -> None:
    assert found(tmp_path, "default: Q4_K\n", reference("shapes/meta-llama-3.1-8b-instruct")) == [
        ("QR302", "advice", 3)
    ]


def test_of_inherited_rules_only_what_is_newer_than_presets(tmp_path: Path) -> None:
    assert found(tmp_path, "extends: llama.cpp/Q3_K_S\n", reference("shapes/qwen3-14b")) == []
    codes = {
        code for code, _, _ in found(tmp_path, "extends: llama.cpp/Q3_K_S\n", reference("shapes/qwen3.6-27b"))
    }
    assert codes == {"QR302"}  # ssm_out


def test_all_advice_has_a_reason_and_a_source_and_yardsticks_are_there() -> None:
    assert all(floor.why and floor.source and floor.bits > 0 for floor in advised_floors())
    for yardstick in advised_yardsticks():
        assert yardstick.says and yardstick.source
        assert load_recipe(yardstick.recipe, registry=REGISTRY).rules
