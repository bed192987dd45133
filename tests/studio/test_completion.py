"""Completion: what may stand at a place of a text that isn't YAML yet. The bar says where the cursor is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantrecipe.studio.completion import Completion, complete, schema_for

SCHEMA = schema_for(
    {"Q4_K": "4.5 bits", "Q6_K": "6.6 bits", "Q8_0": "8.5 bits"},
    {"llama.cpp/Q4_K_M": "medium", "quantrecipe/chat": "for chats"},
    {"attn_v", "attn_q", "ffn_down", "<b>role"},
    {"feedback": "errors made good"},
)


def at(marked: str) -> Completion:
    before, _, after = marked.partition("|")
    line = before.count("\n") + 1
    return complete(before + after, line, len(before.rpartition("\n")[2]) + 1, SCHEMA)


def inserts(marked: str) -> list[str]:
    return [item.insert for item in at(marked).items]


RULES = "rules:\n  - "


@pytest.mark.parametrize(
    ("marked", "expected"),
    [
        # Keys
        ("quantrecipe: 1\nsum|", ["summary: "]),
        ("quantrecipe: 1\nsum|\nname: x\n", ["summary: "]),
        ("target:\n  en|", ["engine: "]),
        ("target:\n  engine: ollama\n  de|", ["device: "]),
        ("target: {en|", ["engine: "]),
        ("target: {en|, device: cpu}", ["engine: "]),
        ("budget:\n  vram:\n    con|", ["context: "]),
        ("importance:\n  unc|: warn", ["uncovered"]),
        (f"{RULES}tens|", ["tensors: "]),
        (f"{RULES}tensors: attn_v\n    ty|", ["type: "]),
        (f"{RULES}{{tensors: attn_v, ty|", ["type: "]),
        (f"{RULES}{{tensors: attn_v,\n     ty|", ["type: "]),
        ("rules:\n- tensors: attn_v\n  ty|", ["type: "]),
        (f"{RULES}{{tensors: attn_v, type: Q4_K}}\n  - tens|", ["tensors: "]),
        ("variables:\n  x: {def|", ["default: "]),
        # Values
        ("default: Q|", ["Q4_K", "Q6_K", "Q8_0"]),
        ("default: q6|", ["Q6_K"]),
        ("default: 6|", ["Q6_K"]),
        ('default: "Q6|"', ["Q6_K"]),
        ("target:\n  engine: |", ["llama.cpp", "ik_llama.cpp", "ollama", "lm-studio"]),
        ("target: {engine: oll|}", ["ollama"]),
        (f"{RULES}{{tensors: attn_|", ["attn_*", "attn_q", "attn_v"]),
        (f"{RULES}{{tensors: [head, ffn_d|], type: Q4_K}}", ["ffn_down"]),
        (f"{RULES}tensors:\n      - ffn_d|", ["ffn_down"]),
        (f"{RULES}{{tensors: attn_v, type: Q8|}}", ["Q8_0"]),
        (f"{RULES}{{tensors: attn_v, choose: [Q4_K, Q8|", ["Q8_0"]),
        (f"{RULES}{{tensors: attn_v, layers: first|", ["first 4", "first 1/8"]),
        (f"{RULES}{{tensors: attn_v, type: Q4_K, optional: |", ["true", "false"]),
        ("extends: ch|", ["quantrecipe/chat"]),
        ("extends: [ch|", ["quantrecipe/chat"]),
        ("extends:\n  - Q4|", ["llama.cpp/Q4_K_M"]),
        ("extends:\n- Q4|", ["llama.cpp/Q4_K_M"]),
        ("encoder: |", ["plain", "feedback"]),
        ("encoder: {name: f|", ["feedback"]),
        ("encoder:\n  name: f|", ["feedback"]),
        ("importance: |", ["required"]),
        ("fallback: |", ["chain", "error", "Q4_K", "Q6_K", "Q8_0"]),
        ("budget: {vram: {kv: q8|", ["q8_0"]),
        ("quantrecipe: |", ["1"]),
        # Nothing
        ("default:|", []),
        ("# def|", []),
        ("default: Q4_K # Q|", []),
        ("summary: >\n  a text: Q|", []),
        ("summary: >-\n\n  Q|", []),
        ("default: Q4_K\n\n\nrules:\n  |", []),
        (f"{RULES[:-1]}|", []),
        ("nothing:\n  some|", []),
        (f"{RULES}{{tensors: 'a #b', type: nothing|", []),
    ],
)
def test_what_may_stand_there(marked: str, expected: list[str]) -> None:
    assert inserts(marked) == expected


def test_keys_that_are_there_are_not_proposed() -> None:
    assert "name: " not in inserts("quantrecipe: 1\nname: x\n|\nsummary: y\n")
    assert "summary: " not in inserts("quantrecipe: 1\nname: x\n|\nsummary: y\n")
    found = inserts(f"{RULES}{{tensors: a, |, why: b}}")
    assert not {"tensors: ", "why: "} & set(found)
    assert "type: " in found
    # Those of the next rule are its own.
    assert "type: " in inserts(f"{RULES}tensors: a\n    |\n  - tensors: b\n    type: Q4_K\n")
    assert "keep: " not in inserts("|")  # a former name


def test_a_pattern_that_yaml_would_misread_is_quoted() -> None:
    assert '"*"' in inserts(f"{RULES}{{tensors: |")
    assert "attn_*" in inserts(f"{RULES}{{tensors: |")
    assert '"<b>role"' in inserts(f"{RULES}{{tensors: <|")


@pytest.mark.parametrize(
    ("marked", "start", "end"),
    [
        ("default: Q|4_K", 10, 14),
        ("default: |", 10, 10),
        ("def|ault: Q4_K", 1, 8),
        ("target: {engine: ol|lama, device: cpu}", 18, 24),
        (f"{RULES}{{tensors: x, layers: fi|rst 4 , type: Q4_K}}", 26, 33),
        (f"{RULES}{{tensors: x, type: Q|4_K}}", 24, 28),
        ("rules:\n  - layers: 0-3, 2|8-31  # ends\n", 13, 23),
    ],
)
def test_what_is_replaced(marked: str, start: int, end: int) -> None:
    found = at(marked)
    assert (found.line, found.start, found.end) == (marked.partition("|")[0].count("\n") + 1, start, end)


def test_what_begins_so_comes_first() -> None:
    schema = schema_for({"BQ4": "", "X_Q4": "", "Q4": ""}, {}, (), {})
    assert [it.label for it in complete("default: Q4", 1, 12, schema).items] == ["Q4", "X_Q4", "BQ4"]


def test_descriptions() -> None:
    assert at("default: Q6|").items[0].detail == "6.6 bits"
    assert at("sum|").items[0].detail.startswith("One sentence")


@given(
    st.lists(st.sampled_from([*"{}[]:,-#\"'|> \n", "rules", "tensors", "type", "Q4", "é"]), max_size=60),
    st.integers(0, 30),
    st.integers(0, 200),
)
def test_no_text_is_too_odd(pieces: list[str], line: int, column: int) -> None:
    text = "".join(pieces)
    found = complete(text, line, column, SCHEMA)
    lines = text.split("\n")
    assert 1 <= found.line <= len(lines)
    assert 1 <= found.start <= found.end <= len(lines[found.line - 1]) + 1
    assert len(found.items) <= 100
