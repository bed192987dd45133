"""QR201, QR202, QR203: rules that can't do anything."""

from pathlib import Path

import pytest
from support.linting import found, given, reference, small_model, what

RULE = """\
rules:
  - tensors: {tensors}
    type: Q6_K
    why: a
    {more}
"""
TWO = """\
rules:
  - tensors: {first}
    {more}
    type: Q6_K
    why: a
  - tensors: {second}
    type: Q8_0
    why: b
"""


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("attn_v", "attn_v"),
        ('"attn_*"', "attn_v"),
        ('"attn_{k,v}"', "attn_v"),
        ("[attn_v, attn_k]", "attn_k"),
    ],
)
def test_a_rule_behind_a_wider_one_is_hidden(tmp_path: Path, first: str, second: str) -> None:
    text = TWO.format(first=first, second=second, more="options: {}")
    assert found(tmp_path, text) == [("QR201", "error", 8)]
    assert "line 4 takes every tensor" in what(tmp_path, text, "QR201")


def test_so_it_is_without_any_model_where_the_texts_show_it(tmp_path: Path) -> None:
    text = TWO.format(first="[attn_v, attn_k]", second="attn_k", more="options: {}")
    assert found(tmp_path, text, []) == [("QR201", "error", 8)]
    assert found(tmp_path, TWO.format(first="attn_v", second="attn_k", more="options: {}"), []) == []


@pytest.mark.parametrize("more", ["when: n_expert > 0", "layers: first 4"])
def test_a_narrower_one_hides_nothing(tmp_path: Path, more: str) -> None:
    assert found(tmp_path, TWO.format(first="attn_v", second="attn_v", more=more)) == []


def test_norms_aren_t_hidden_by_wildcards_which_don_t_reach_them(tmp_path: Path) -> None:
    text = TWO.format(first='"attn_*"', second="attn_norm", more="options: {}").replace("Q8_0", "F16")
    assert found(tmp_path, text) == []


def test_a_name_that_no_model_has(tmp_path: Path) -> None:
    text = RULE.format(tensors="ffn_dwon", more="options: {}")
    assert found(tmp_path, text) == [("QR202", "warning", 4)]
    assert what(tmp_path, text, "QR202").endswith("did you mean 'ffn_down'?")


def test_optional_doesn_t_excuse_a_typing_error(tmp_path: Path) -> None:
    assert found(tmp_path, RULE.format(tensors="ffn_dwon", more="optional: true")) == [
        ("QR202", "warning", 4)
    ]


def test_a_name_beside_others_isn_t_excused(tmp_path: Path) -> None:
    text = RULE.format(tensors="[attn_q, v_proj]", more="options: {}")
    assert found(tmp_path, text) == [("QR202", "warning", 4)]
    assert "did you mean 'attn_v'? Hugging Face's v_proj is attn_v" in what(tmp_path, text, "QR202")


def test_names_that_llama_cpp_has_elsewhere_are_known(tmp_path: Path) -> None:
    assert found(tmp_path, RULE.format(tensors="per_layer_token_embd", more="optional: true")) == []


def test_on_a_given_model_it_is_an_error(tmp_path: Path) -> None:
    text = RULE.format(tensors="ffn_down_exps", more="options: {}")
    assert found(tmp_path, text) == []  # some models have it
    assert found(tmp_path, text, given("shapes/qwen3-0.6b")) == [("QR202", "error", 4)]
    assert (
        found(
            tmp_path, RULE.format(tensors="ffn_down_exps", more="optional: true"), given("shapes/qwen3-0.6b")
        )
        == []
    )


def test_layers_that_the_model_doesn_t_have(tmp_path: Path) -> None:
    text = RULE.format(tensors="ffn_down", more="layers: first 1/8")
    assert found(tmp_path, text, [small_model(tmp_path, layers=4)]) == [("QR203", "error", 4)]
    assert found(tmp_path, text, [small_model(tmp_path, layers=8)]) == []


def test_layers_that_no_model_has(tmp_path: Path) -> None:
    text = RULE.format(tensors="ffn_down", more="layers: 200-300")
    assert found(tmp_path, text, reference("shapes/qwen3-0.6b", "shapes/qwen3-14b")) == [
        ("QR203", "warning", 4)
    ]


def test_with_an_importance_matrix_a_rule_may_have_something_to_do(tmp_path: Path) -> None:
    text = TWO.format(first="attn_v", second="attn_v", more="when: not has_importance")
    assert found(tmp_path, text, given("shapes/qwen3-0.6b")) == []


def test_inherited_rules_may_lie_idle(tmp_path: Path) -> None:
    assert found(tmp_path, "extends: llama.cpp/Q4_K_M\n", given("shapes/qwen3-0.6b")) == []
