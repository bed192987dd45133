"""Lists of `regex=type`: reading them, their comments and types, and turning them into rules."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples

from quantrecipe.errors import RecipeError
from quantrecipe.exchange.from_commands.custom_q import from_custom_q, from_tool_suite
from quantrecipe.exchange.from_commands.overrides import read_list, read_type
from quantrecipe.exchange.to_commands.type_regexes import layer_regex, names_regex
from quantrecipe.model.shapes import open_shapes
from quantrecipe.recipe.terms.regex import Regex
from quantrecipe.registry import Registry, load_registry

ZOO = Path(__file__).parents[2] / "data/shapes/zoo"


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


def test_comments_stand_above_lines_or_behind_them() -> None:
    text = r"""
## A header

# Attention
blk\..*\.attn_k_b.*=q4_0
blk\.0\.attn_q=iq4_xs  # the first

output=q8_0
# Experts
# are low
ffn_down_exps=q2_K,ffn_up_exps=q3_K
"""
    found = read_list(text, "list", commas=True)
    assert [(it.regex, it.type, it.why, it.line) for it in found] == [
        (r"blk\..*\.attn_k_b.*", "q4_0", "Attention", 5),
        (r"blk\.0\.attn_q", "iq4_xs", "the first", 6),
        ("output", "q8_0", "", 8),
        ("ffn_down_exps", "q2_K", "Experts; are low", 11),
        ("ffn_up_exps", "q3_K", "Experts; are low", 11),
    ]


def test_every_line_that_is_not_understood_is_named() -> None:
    with pytest.raises(RecipeError) as caught:
        read_list("a=q8_0\nnonsense\n=q8_0\n(=q8_0\nb=", "my.recipe")
    assert [problem.line for problem in caught.value.problems] == [2, 3, 4, 5]
    assert "my.recipe:2: 'nonsense' isn't like REGEX=TYPE" in str(caught.value)


@pytest.mark.parametrize(
    ("written", "ours", "package"),
    [
        ("q4_K", "Q4_K", None),
        ("Q8_0", "Q8_0", None),
        ("bf16", "BF16", None),
        ("iq4_ks", "IQ4_KS", "quantrecipe-ik"),
    ],
)
def test_types_have_our_names(written: str, ours: str, package: str | None, registry: Registry) -> None:
    found = read_type(written, registry)
    assert (found.name, found.package, found.note) == (ours, package, "")


def test_interleaved_types_become_the_plain_ones(registry: Registry) -> None:
    found = read_type("iq2_xxs_r4", registry)
    assert found.name == "IQ2_XXS"
    assert "-rtr" in found.note
    with pytest.raises(RecipeError, match="there is no format 'Q4K'; did you mean"):
        read_type("q4k", registry)


@settings(max_examples=examples(200), deadline=None)
@given(st.sets(st.integers(0, 1300), min_size=1, max_size=80))
def test_layers_as_an_expression(layers: set[int]) -> None:
    text = layer_regex(layers)
    assert {n for n in range(2000) if re.fullmatch(text, str(n))} == layers
    ours = Regex.parse(f"^{text}$")
    assert all(ours.search(str(n)) == (n in layers) for n in range(0, 1400, 7))


def test_layers_and_names_are_short() -> None:
    assert layer_regex(range(3, 62)) == "([3-9]|[1-5][0-9]|6[0-1])"
    assert layer_regex([7]) == "7"
    assert names_regex(["ffn_up_exps", "ffn_gate_exps"]) == "ffn_(gate|up)_exps"
    assert names_regex(["attn_v"]) == "attn_v"
    assert names_regex(["a", "a_b"]) == "a(|_b)"


NAMES = [
    "attn_q",
    "attn_k",
    "attn_q.bias",
    "ffn_gate",
    "ffn_gate_exps",
    "ffn_down.0",
    "a",
    "a_a",
    "b+c",
    "x.y.z",
]


@settings(max_examples=examples(100), deadline=None)
@given(st.sets(st.sampled_from(NAMES), min_size=1))
def test_names_as_an_expression(names: set[str]) -> None:
    text = names_regex(names)
    assert {
        name for name in (*NAMES, "attn_", "ffn_gate_", "a_", "attn") if re.fullmatch(text, name)
    } == names


UBERGARM = r"""
# Embeddings and head
token_embd\.weight=iq4_nl
^output\.weight=q6_K

# Attention is always active
blk\..*\.attn_.*=q8_0
blk\.[0-3]\.ffn_down_exps\.weight=q3_K
# Experts
blk\..*\.ffn_down_exps\.weight=iq2_s
blk\..*\.ffn_(gate|up)_exps\.weight=iq1_m_r4
blk\..*\.ffn_(gate|up)_shexp\.weight=q5_K
"""


def test_custom_q_for_a_model_is_as_readable_as_it_was(registry: Registry) -> None:
    model = open_shapes(ZOO / "qwen3moe-48.json")
    found = from_custom_q(UBERGARM, registry, model=model, name="ubergarm", file="uber.txt")
    assert found.text == (
        "# Imported from --custom-q.\n"
        "# iq1_m_r4 is IQ1_M with interleaved rows, which ik_llama.cpp makes when it loads a file (-rtr)\n"
        r"# blk\..*\.ffn_(gate|up)_shexp\.weight=q5_K is left out: it names no tensor of this model" "\n"
        "quantrecipe: 1\n"
        "name: ubergarm\n"
        "rules:\n"
        "  - tensors: token_embd\n    type: IQ4_NL\n    why: Embeddings and head\n"
        "  - tensors: head\n    type: Q6_K\n    why: Embeddings and head\n"
        "  - tensors: attn_{k,output,q,v}\n    type: Q8_0\n    why: Attention is always active\n"
        "  - tensors: ffn_down_exps\n    layers: first 4\n    type: Q3_K\n    why: Attention is always active\n"
        "  - tensors: ffn_down_exps\n    layers: 4-47\n    type: IQ2_S\n    why: Experts\n"
        "  - tensors: ffn_{gate,up}_exps\n    type: IQ1_M\n    why: Experts\n"
    ).replace("4-47", '"4-47"')  # fmt: skip
    assert len(found.notes) == 2


def test_custom_q_without_a_model_stays_as_it_is(registry: Registry) -> None:
    found = from_custom_q(
        r"blk\..*\.attn_.*=q8_0,^blk\.([3-9]|1[0-9])\.ffn_(up|gate)_exps\.weight$=iq2_s",
        registry,
        base="q2_K",
        name="x",
        file="f",
    )
    assert r"tensors: 'regex:blk\..*\.attn_.*'" in found.text, (
        "not anchored: other models may have more such names"
    )
    assert 'tensors: ffn_{up,gate}_exps\n    layers: "3-19"\n' in found.text
    assert "default: Q2_K\n" in found.text


def test_types_that_need_a_package_say_so(registry: Registry) -> None:
    model = open_shapes(ZOO / "qwen3moe-48.json")
    found = from_custom_q("attn=iq4_ks", registry, model=model, name="x", file="f")
    assert "requires: [quantrecipe-ik]\n" in found.text
    assert "type: IQ4_KS\n" in found.text
    assert any("aren't installed: quantrecipe-ik" in note for note in found.notes)


TOOL_SUITE = r"""## Quant mix recipe created using Thireus' GGUF Tool Suite - https://gguf.thireus.com/
# Model name: Some-Model

## Model head & embeddings — qbits: 32 8
^output_norm\.weight$=f32
^token_embd\.weight$=q8_0
^output\.weight$=q8_0

## Multi-headed attention parameters — qbits: 32 6
^blk\.([0-9]|[1-3][0-9]|4[0-7])\.attn_norm\.weight$=f32
^blk\.([0-9]|[1-3][0-9]|4[0-7])\.attn_q\.weight$=q6_K
^blk\.([0-9]|[1-3][0-9]|4[0-7])\.attn_k\.weight$=q6_K
^blk\.([1-9]|[1-3][0-9]|4[0-7])\.exp_probs_b\.bias$=f32

## Summary of tensor counts and bpw per qtype
#
# q8_0      	2  	8.5
"""


def test_a_recipe_of_the_tool_suite(registry: Registry) -> None:
    found = from_tool_suite(TOOL_SUITE, registry, name="x", file="x.recipe")
    assert found.text == (
        "# Imported from GGUF-Tool-Suite.\n"
        "quantrecipe: 1\n"
        "name: x\n"
        "rules:\n"
        '  - tensors: [token_embd, output]\n    type: Q8_0\n    why: "Model head & embeddings — qbits: 32 8"\n'
        '  - tensors: attn_{q,k}\n    layers: "0-47"\n    type: Q6_K\n'
        '    why: "Multi-headed attention parameters — qbits: 32 6"\n'
    )
    assert found.notes == (), "norms and biases stay as they are anyway"


def test_nothing_is_no_recipe(registry: Registry) -> None:
    with pytest.raises(RecipeError, match="there is no rule in it"):
        from_tool_suite("# only words\n", registry, name="x", file="x.recipe")


@settings(max_examples=examples(200), deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    for commas, words in ((False, False), (True, False), (False, True)):
        try:
            read_list(text, "f", commas=commas, words=words)
        except RecipeError as error:
            assert all(problem.line for problem in error.problems)


@pytest.mark.slow
def test_long_lists_are_refused_at_once(registry: Registry) -> None:
    with pytest.raises(RecipeError, match="at most 1,048,576"):
        from_custom_q("a=q8_0," * 200_000, registry, name="x", file="f")
    lines = "\n".join(f"{random.Random(i).random()}=q8_0" for i in range(20_000))
    assert len(read_list(lines, "f")) == 20_000
