"""Pre-tokenizers are recognised by their rules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from quantrecipe.errors import ModelError
from quantrecipe.model.tokenizer.pre_tokenizer import (
    check_name,
    known_names,
    known_pre_tokenizers,
    name_of_expression,
    recognise,
)

LLAMA3 = next(rules.splits[0] for rules in known_pre_tokenizers() if rules.name == "llama-bpe")
QWEN2 = next(rules.splits[0] for rules in known_pre_tokenizers() if rules.name == "qwen2")
BLOOM = next(rules.splits[0] for rules in known_pre_tokenizers() if rules.name == "bloom")
BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
GPT2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
PATH = Path("tokenizer.json")


def split(pattern: str, behavior: str = "isolated", invert: bool = False) -> pre_tokenizers.Split:
    return pre_tokenizers.Split(Regex(pattern), behavior, invert)


def saved(pre: Any, *, normalizer: Any = None, ignore_merges: bool = False) -> dict[str, Any]:
    """tokenizer.json, as Hugging Face's library itself writes it."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    if pre is not None:
        tokenizer.pre_tokenizer = pre
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    return json.loads(tokenizer.to_str())


SEQUENCE = pre_tokenizers.Sequence


@pytest.mark.parametrize(
    ("name", "pre", "ignore_merges"),
    [
        ("gpt-2", GPT2, False),
        ("gpt-2", SEQUENCE([GPT2]), False),
        ("llama-bpe", SEQUENCE([split(LLAMA3), BYTES]), True),
        ("dbrx", SEQUENCE([split(LLAMA3), BYTES]), False),
        ("dbrx", SEQUENCE([split(LLAMA3, "removed", invert=True), BYTES]), False),
        ("qwen2", SEQUENCE([SEQUENCE([split(QWEN2)]), BYTES]), False),
        ("smollm", SEQUENCE([pre_tokenizers.Digits(individual_digits=True), GPT2]), False),
        ("smollm", SEQUENCE([split(r"\p{N}"), GPT2]), False),
    ],
)
def test_forms_that_mean_the_same(name: str, pre: Any, ignore_merges: bool) -> None:
    assert recognise(PATH, saved(pre, ignore_merges=ignore_merges)) == name


@pytest.mark.parametrize("rules", known_pre_tokenizers(), ids=lambda rules: rules.name)
def test_every_rule_of_the_table(rules: Any) -> None:
    tokenizer = saved(SEQUENCE([*map(split, rules.splits), BYTES]), ignore_merges=rules.ignore_merges)
    if rules.form is not None:
        tokenizer["pre_tokenizer"] = rules.form
    assert recognise(PATH, tokenizer) == rules.name
    for name in rules.names:
        assert recognise(PATH, tokenizer, ("superbpe", "falcon", name)) in (name, "superbpe", "falcon")


def test_no_two_rules_are_the_same() -> None:
    known = known_pre_tokenizers()
    assert len({(rules.splits, rules.ignore_merges) for rules in known}) == len(known)


@pytest.mark.parametrize(
    ("preferred", "ignore_merges", "name"),
    [
        ((), True, "llama-bpe"),
        (("pixtral", "lfm2"), True, "pixtral"),
        (("qwen2", "lfm2"), True, "lfm2"),
        (("dbrx",), True, "dbrx"),  # a name that llama.cpp merges otherwise by
        (("dbrx", "lfm2"), True, "lfm2"),
        (("glm4",), False, "glm4"),
        (("glm4", "smaug-bpe"), False, "smaug-bpe"),
        (("qwen2",), False, "dbrx"),
    ],
)
def test_an_architecture_says_which_of_several_names(
    preferred: tuple[str, ...], ignore_merges: bool, name: str
) -> None:
    tokenizer = saved(SEQUENCE([split(LLAMA3), BYTES]), ignore_merges=ignore_merges)
    assert recognise(PATH, tokenizer, preferred) == name


@pytest.mark.parametrize(
    ("name", "ignore_merges", "expression"),
    [
        (
            "dbrx",
            False,
            r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*"
            r"|\s*[\r\n]|\s+(?!\S)|\s+",
        ),
        ("llama-bpe", True, LLAMA3.replace(r"\r", "\r").replace(r"\n", "\n")),
        ("qwen2", False, QWEN2.replace(r"\p{N}|", r"\p{N}{1}|")),
        (
            "qwen2",
            False,
            QWEN2.replace(
                "(?i:'s|'t|'re|'ve|'m|'ll|'d)", "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
            ),
        ),
    ],
)
def test_other_spellings_of_an_expression(name: str, ignore_merges: bool, expression: str) -> None:
    """tiktoken's of GPT-4 is Llama 3's: possessive quantifiers and a run's last line end match the same."""
    assert expression not in (LLAMA3, QWEN2)
    assert recognise(PATH, saved(SEQUENCE([split(expression), BYTES]), ignore_merges=ignore_merges)) == name


def test_names_of_single_expressions() -> None:
    assert name_of_expression(QWEN2) == "qwen2"
    assert name_of_expression(QWEN2, ("hunyuan",)) == "hunyuan"
    assert name_of_expression(LLAMA3) == "dbrx"  # tiktoken has no ignore_merges
    assert name_of_expression("[a-z]+") is None


def test_nfc_is_let_through() -> None:
    pre = SEQUENCE([split(QWEN2), BYTES])
    assert recognise(PATH, saved(pre, normalizer=normalizers.NFC())) == "qwen2"
    assert recognise(PATH, saved(pre, normalizer=normalizers.Sequence([normalizers.NFC()]))) == "qwen2"


@pytest.mark.parametrize(
    ("pre", "ignore_merges"),
    [
        (None, False),
        (pre_tokenizers.ByteLevel(add_prefix_space=True), False),
        (GPT2, True),
        (split(LLAMA3), True),  # no bytes
        (SEQUENCE([split(LLAMA3), GPT2]), True),  # cuts further
        (SEQUENCE([split(LLAMA3, "removed"), BYTES]), True),
        (SEQUENCE([split(LLAMA3, "merged_with_previous"), BYTES]), True),
        (SEQUENCE([split(LLAMA3.replace("{1,3}", "{1,4}")), BYTES]), True),
        (SEQUENCE([split(QWEN2), BYTES]), True),
        (SEQUENCE([split(r"\p{N}", "removed", invert=True), GPT2]), False),
        (
            SEQUENCE([split(BLOOM, "removed", invert=True), BYTES]),
            False,
        ),  # what it doesn't match would be lost
        (pre_tokenizers.Whitespace(), False),
        (pre_tokenizers.Metaspace(), False),
    ],
)
def test_other_rules_are_refused_and_shown(pre: Any, ignore_merges: bool) -> None:
    tokenizer = saved(pre, ignore_merges=ignore_merges)
    with pytest.raises(ModelError) as caught:
        recognise(PATH, tokenizer)
    message = str(caught.value)
    assert json.dumps(tokenizer["pre_tokenizer"], ensure_ascii=False) in message
    assert "known: gpt-2, llama-bpe" in message
    assert "kimi-k2)" in message
    assert "--pre NAME" in message


def test_rules_that_are_nonsense_are_refused_in_a_few_lines() -> None:
    with pytest.raises(ModelError, match=r"normalizes text by \{\}"):
        recognise(PATH, {"normalizer": {"type": {}}, "model": {}})
    many = [{"type": "Split", "pattern": {"Regex": "a" * 100_000}, "behavior": "Isolated"}]
    with pytest.raises(ModelError, match="no name for its rules") as caught:
        recognise(PATH, {"pre_tokenizer": {"type": "Sequence", "pretokenizers": many}, "model": {}})
    assert len(str(caught.value)) < 5000


@pytest.mark.parametrize("normalizer", [normalizers.NFKC(), normalizers.Lowercase(), normalizers.Strip()])
def test_normalizers_that_change_text_are_refused(normalizer: Any) -> None:
    with pytest.raises(ModelError, match="normalizes text by"):
        recognise(PATH, saved(GPT2, normalizer=normalizer))


@pytest.mark.parametrize("pre", [{}, [], 3, {"type": "Split"}, {"type": "Sequence", "pretokenizers": 1}])
def test_nonsense(pre: Any) -> None:
    with pytest.raises(ModelError):
        recognise(PATH, {"pre_tokenizer": pre, "model": {}})


def test_names_of_the_table_are_llama_cpps() -> None:
    assert {name for rules in known_pre_tokenizers() for name in rules.names} < set(known_names())
    assert list(known_names()) == sorted(set(known_names()))


@pytest.mark.parametrize("name", ["default", "gpt-2", "llama3", "deepseek-r1-qwen", "kimi-k2"])
def test_llama_cpps_names_are_taken(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("gpt2", r"--pre gpt2: .* no pre-tokenizer of this name; did you mean gpt-2"),
        ("Qwen2", "did you mean qwen2"),
        ("", "it has: a.x-4.0, afmoe,"),
        ("nonsense", "it has: .*, youtu$"),
    ],
)
def test_other_names_are_refused(name: str, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        check_name(name)
