"""Which tensors a pattern is about, and which texts are no patterns."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantrecipe.errors import RecipeError
from quantrecipe.recipe.terms.pattern import Pattern
from quantrecipe.tensor import TensorInfo

NAMES = (
    "token_embd.weight",
    "output.weight",
    "output_norm.weight",
    "output_norm.bias",
    "blk.3.attn_q.weight",
    "blk.3.attn_q.bias",
    "blk.3.attn_k.weight",
    "blk.3.attn_v.weight",
    "blk.13.attn_v.weight",
    "blk.3.attn_norm.weight",
    "blk.3.ffn_up.weight",
    "blk.3.ffn_gate_inp.weight",
    "blk.3.ffn_down_exps.weight",
    "blk.3.ffn_down_shexp.weight",
    "blk.3.ffn_down_exps.scale",
    "blk.46.nextn.eh_proj.weight",
    "blk.3.ssm_a",
    "enc.blk.3.attn_v.weight",
    "mm.0.weight",
)


def matched(pattern: str, head: str | None = "output.weight") -> set[str]:
    parsed = Pattern.parse(pattern)
    return {n for n in NAMES if parsed.matches(TensorInfo.from_name(n, (256, 256), "F16"), head)}


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("attn_v", {"blk.3.attn_v.weight", "blk.13.attn_v.weight"}),
        ("token_embd", {"token_embd.weight"}),
        ("output", {"output.weight"}),
        ("ssm_a", {"blk.3.ssm_a"}),
        ("attn_[kv]", {"blk.3.attn_k.weight", "blk.3.attn_v.weight", "blk.13.attn_v.weight"}),
        ("attn_[!a-q]", {"blk.3.attn_v.weight", "blk.13.attn_v.weight"}),
        (
            "attn_?",
            {"blk.3.attn_q.weight", "blk.3.attn_k.weight", "blk.3.attn_v.weight", "blk.13.attn_v.weight"},
        ),
        ("*_exps", {"blk.3.ffn_down_exps.weight"}),
        ("*_exps.scale", {"blk.3.ffn_down_exps.scale"}),
        ("ffn_down_*exp*", {"blk.3.ffn_down_exps.weight", "blk.3.ffn_down_shexp.weight"}),
        ("attn_q.bias", {"blk.3.attn_q.bias"}),
        ("*.bias", {"blk.3.attn_q.bias", "output_norm.bias"}),
        ("nextn.eh_proj", {"blk.46.nextn.eh_proj.weight"}),
        ("blk.3.attn_v", {"blk.3.attn_v.weight"}),
        ("blk.?.attn_v", {"blk.3.attn_v.weight"}),
        ("blk.1*.attn_v", {"blk.13.attn_v.weight"}),
        ("blk.*.ffn_*", {n for n in NAMES if n.startswith("blk.3.ffn_") and n.endswith(".weight")}),
        ("blk.3.attn_q.bias", {"blk.3.attn_q.bias"}),
        ("enc.blk.*.attn_v", {"enc.blk.3.attn_v.weight"}),
        ("{attn_q,output_norm}.bias", {"blk.3.attn_q.bias", "output_norm.bias"}),
        ("ffn_{up,down{_exps,_shexp}}", {f"blk.3.ffn_{r}.weight" for r in ("up", "down_exps", "down_shexp")}),
        ("output{,_norm}", {"output.weight", "output_norm.weight"}),
        ("{head,token_embd}", {"output.weight", "token_embd.weight"}),
        ("mm.0", {"mm.0.weight"}),
        ("ATTN_V", set()),
        ("attn", set()),
        ("*.*.*.*.*", set()),
        ("regex:attn_v", {"blk.3.attn_v.weight", "blk.13.attn_v.weight", "enc.blk.3.attn_v.weight"}),
        (r"regex:^blk\.(3|4)\.attn_[kv]\.weight$", {"blk.3.attn_k.weight", "blk.3.attn_v.weight"}),
        (r"regex:\.scale$", {"blk.3.ffn_down_exps.scale"}),
    ],
)
def test_what_a_pattern_names(pattern: str, expected: set[str]) -> None:
    assert matched(pattern) == expected


STRANGE = [
    "a.weight",
    "a",
    "in_proj_weight",
    "blk.0.attn.in_proj_weight",
    "weight",
    "x[0].weight",
    "x*.weight",
    "x y.weight",
]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("a", {"a.weight"}),
        ("name:a", {"a"}),
        ("name:a.weight", {"a.weight"}),
        ("in_proj_weight", {"in_proj_weight"}),
        ("attn.in_proj_weight", {"blk.0.attn.in_proj_weight"}),
        ("blk.0.attn.in_proj_weight", {"blk.0.attn.in_proj_weight"}),
        ("*.*_weight", {"blk.0.attn.in_proj_weight"}),
        ("weight", {"weight"}),
        ("name:x[0].weight", {"x[0].weight"}),
        ("name:x*.weight", {"x*.weight"}),
        ("name:x y.weight", {"x y.weight"}),
        ("name:x", set()),
        ("name:A", set()),
    ],
)
def test_strange_names_are_reached_one_by_one(pattern: str, expected: set[str]) -> None:
    parsed = Pattern.parse(pattern)
    tensors = [TensorInfo.from_name(name, (64, 64), "F16") for name in STRANGE]
    found = {t.name for t in tensors if parsed.matches(t, None, shadowed=t.name == "a")}
    assert found == expected
    assert found == {
        t.name for t in tensors if parsed.reaches(t, None, quantizable=True, shadowed=t.name == "a")
    }


def test_a_full_name_reaches_any_tensor() -> None:
    vector = TensorInfo.from_name("a[1]", (64,), "F32")
    assert Pattern.parse("name:a[1]").names_outright
    assert Pattern.parse("name:a[1]").reaches(vector, None, quantizable=False, shadowed=True)
    with pytest.raises(RecipeError, match="without a name"):
        Pattern.parse("name:")


def test_a_star_stays_within_a_part() -> None:
    assert matched("*") == {n for n in NAMES if "." not in TensorInfo.from_name(n, (1,), "F16").role}
    assert "blk.3.attn_v.weight" not in matched("blk.*")


@pytest.mark.parametrize("head", ["output.weight", "token_embd.weight", None])
def test_head_is_the_tensor_that_makes_the_logits(head: str | None) -> None:
    assert matched("head", head) == ({head} if head else set())


@pytest.mark.parametrize(
    ("pattern", "outright"),
    [
        ("ffn_gate_inp", True),
        ("blk.*.attn_norm", True),
        ("blk.[0-9].attn_norm", True),
        ("enc.blk.*.attn_norm", True),
        ("{attn_q,attn_k}.bias", True),
        ("head", True),
        ("attn_q.bias", True),
        ("*_norm", False),
        ("attn_[kv]", False),
        ("blk.3.attn_?", False),
        ("*.bias", False),
        ("*.blk.*.attn_norm", False),
        ("{attn_norm,*_exps}", False),
        ("regex:attn_norm", False),
    ],
)
def test_a_pattern_without_wildcard_in_its_role_names_outright(pattern: str, outright: bool) -> None:
    assert Pattern.parse(pattern).names_outright is outright


def test_wildcards_reach_quantizable_tensors_alone_and_each_alternative_counts_by_itself() -> None:
    norm = TensorInfo.from_name("blk.3.attn_norm.weight", (256,), "F32")
    k_norm = TensorInfo.from_name("blk.3.attn_k_norm.weight", (256,), "F32")
    pattern = Pattern.parse("{attn_norm,*_norm}")
    assert pattern.matches(k_norm, None)
    assert pattern.reaches(norm, None, quantizable=False)
    assert not pattern.reaches(k_norm, None, quantizable=False)
    assert pattern.reaches(k_norm, None, quantizable=True)
    assert not Pattern.parse("regex:norm").reaches(norm, None, quantizable=False)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty pattern"),
        ("attn_v.weight", "leave it out: attn_v"),
        ("attn_v, attn_k", "write several patterns as a list"),
        ("attn_v,attn_k", "write a list"),
        ("attn_(k|v)", "start with 'regex:'"),
        ("attn_.+", "start with 'regex:'"),
        ("attn_{k,v", "a { without its }"),
        ("attn_k}", "a } without its {"),
        ("attn_[kv", "a [ without its ]"),
        ("attn_kv]", "a ] without its ["),
        ("attn_[]", "odd characters"),
        ("attn_[k.v]", "odd characters"),
        ("attn_[!]", "odd characters"),
        ("attn_[v-k]", "runs backwards"),
        ("blk..attn_v", "empty part"),
        ("blk.{0..9}.attn_v", "empty part"),
        ("{attn_v,}", "empty part"),
        ("blk.**", "write each part: *.*"),
        ("{" * 9 + "a" + "}" * 9, "braces deeper than 8"),
        ("{a,b}" * 10, "more than 1000 names"),
        ("a" * 2001, "at most 2000"),
        ("regex:", "would match every tensor"),
        ("regex:(", "isn't closed"),
    ],
)
def test_what_is_no_pattern(text: str, words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Pattern.parse(text)
    assert words in str(caught.value)


@given(st.text(alphabet="ab.*?[]{},!-_0", max_size=40) | st.text(max_size=40))
def test_any_text_is_a_pattern_or_a_recipe_error(text: str) -> None:
    try:
        pattern = Pattern.parse(text)
    except RecipeError:
        return
    assert str(pattern) == text
    pattern.matches(TensorInfo.from_name("blk.3.attn_v.weight", (256, 256), "F16"), None)


def test_a_pattern_of_many_stars_is_as_quick_as_any() -> None:
    tensor = TensorInfo.from_name("blk.0." + "a" * 3000 + ".weight", (1,), "F16")
    start = time.thread_time()
    assert not Pattern.parse("*a" * 200 + "*b").matches(tensor, None)
    assert not Pattern.parse("*a?" * 200 + "c*b").matches(tensor, None)
    assert time.thread_time() - start < 1  # a matcher that tries all ways would outlive the universe


PATTERNS = (
    "attn_q", "attn_*", "ffn_{up,down}*", "blk.3.attn_v", "blk.*.ffn_*", "*", "head", "token_embd", "*_norm", "*.bias",
    "enc.*", "regex:attn_.\\.weight$", "ssm_a", "mm.*", "output", "ffn_[du]*",
)  # fmt: skip


@pytest.mark.parametrize("text", PATTERNS)
def test_what_matches_a_tensor_may_match_its_role(text: str) -> None:
    """Else planning wouldn't ask the pattern for the tensor, and another rule would decide."""
    pattern = Pattern.parse(text)
    for name in matched(text):
        assert pattern.may_match(TensorInfo.from_name(name, (256, 256), "F16").role), name


def test_roles_that_no_tensor_of_makes_match() -> None:
    assert not Pattern.parse("attn_q").may_match("ffn_down")
    assert not Pattern.parse("ffn_{up,gate}*").may_match("attn_v")
