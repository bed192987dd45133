"""Recipes are read as strict YAML 1.2, with line numbers."""

from __future__ import annotations

import time
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantrecipe.builtin import shipped_recipes
from quantrecipe.errors import RecipeError
from quantrecipe.recipe.load import load_recipe_text
from quantrecipe.recipe.reading import yaml_document
from quantrecipe.recipe.reading.yaml_document import read_document


def plain(text: str) -> Any:
    root, problems = read_document(text, "r.yaml")
    assert not problems
    return root.plain()


def complaints(text: str) -> str:
    try:
        _, problems = read_document(text, "r.yaml")
    except RecipeError as error:
        return str(error)
    return "\n".join(map(str, problems))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("off", "off"),
        ("yes", "yes"),
        ("n", "n"),
        ("3:6", "3:6"),
        ("1_000", "1_000"),
        ("2024-01-01", "2024-01-01"),
        ("=", "="),
        ("0-3", "0-3"),
        ("1/8", "1/8"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("7", 7),
        ("-7", -7),
        ("0", 0),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1e3", 1000.0),
        ('"7"', "7"),
        ("'012'", "012"),
        (">-\n  a\n  b", "a b"),
        ("[1, a, [b]]", [1, "a", ["b"]]),
        ("{x: 1}", {"x": 1}),
    ],
)
def test_values_are_read_by_the_rules_of_yaml_1_2(text: str, value: Any) -> None:
    assert plain(f"key: {text}") == {"key": value}


def test_keys_are_texts() -> None:
    assert plain("7: a\ntrue: b\nnull: c\n012: d") == {"7": "a", "true": "b", "null": "c", "012": "d"}


@pytest.mark.parametrize(
    "text", ["012", "-012", "0x10", "0o17", "0b11", ".inf", "-.inf", ".nan", "00", "0_1"]
)
def test_numbers_that_yaml_1_1_and_1_2_read_differently_are_refused(text: str) -> None:
    message = complaints(f"a: 1\nkey: {text}")
    assert message.startswith(f"r.yaml:2: {text} is read differently by different versions of YAML; quote it")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "r.yaml: the recipe is empty; start with `quantrecipe: 1`"),
        ("# only a comment\n", "the recipe is empty"),
        ("a: 1\nb: 2\na: 3", "r.yaml:3: the key 'a' stands here again, after line 1; keep one of them"),
        ("x: {a: 1, a: 2}", "r.yaml:1: the key 'a' stands here again"),
        ("a: 1\n---\nb: 2", "r.yaml:2: a second document starts here"),
        ("a: &x 1", "r.yaml:1: &x is an anchor in YAML, and recipes have none"),
        ("a: &x [1]", "&x is an anchor"),
        ("tensors: *_exps", 'a pattern that starts with * needs quotes: "*_exps"'),
        ("tensors: *.bias", "texts with * [ ] { } & ! % @ ` in them need quotes"),
        ("tensors: [attn_{q,k}, b]", "texts with * [ ] { } & ! % @ ` in them need quotes"),
        ("tensors: {a,b}: 1", "isn't YAML"),
        ("? {a: 1}\n: 2", "r.yaml:1: a mapping where a key should stand"),
        ("a: !!python/object/apply:os.system [ls]", "recipes have no tags"),
        ("a: !!str 1", "recipes have no tags"),
        ("a: !x", "recipes have no tags"),
        ("<<: {a: 1}", "<< merges mappings in YAML, and recipes don't"),
        ("a:\n\tb: 1", "r.yaml:2: this isn't YAML"),
        ("a:\n\tb: 1", "YAML doesn't take tabs"),
        ("why: a: b", "a text with a colon and a space in it needs quotes"),
        ("a: [1", "this isn't YAML"),
        ("a: 'x", "this isn't YAML"),
        ("a: 1\nb: \x01", "r.yaml:2: the character U+0001 isn't allowed in YAML"),
        ('a: "\\ud800"', "half a surrogate pair"),
        ('a: "x\\0"', "a NUL"),
        ("a: " + "9" * 50, "is too large"),
        ("a: 1e999", "is too large"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    assert message in complaints(text)


def test_nodes_know_where_they_stand() -> None:
    root, _ = read_document("a: 1\nrules:\n  - tensors: x\n    type: y\n", "r.yaml")
    rule = root.entries["rules"].value.items[0]
    assert (rule.line, rule.column) == (3, 5)
    assert rule.entries["type"].value.line == 4
    assert rule.entries["type"].key.column == 5


def test_a_byte_order_mark_is_no_content() -> None:
    assert plain("\ufeffa: 1") == {"a": 1}


LAUGHS = "a: &a [x, x]\n" + "\n".join(
    f"{b}: &{b} [*{a}, *{a}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "text",
    [
        LAUGHS,
        "[" * 100_000,
        "{a: " * 100_000,
        "- " * 50_000 + "x",
        "x" * (1 << 20) + "y",
        "[" + "1," * 400_000 + "]",
        "? " * 50_000 + "x",
    ],
    ids=["aliases", "brackets", "braces", "dashes", "size", "items", "keys"],
)
@pytest.mark.slow
def test_bombs_are_refused_quickly(text: str) -> None:
    start = time.thread_time()
    assert complaints(text)
    assert time.thread_time() - start < 8  # the one of many items has to be read as far as the limit


@given(st.text(max_size=60) | st.text(alphabet="ab:-[]{}&*!|>'\"%@`#?, \n\t017", max_size=60))
def test_any_text_is_a_document_or_a_recipe_error(text: str) -> None:
    complaints(text)


@pytest.mark.parametrize(
    ("text", "line", "column"), [("quantrecipe: 1\nname: a\nrules: [a, }\n", 3, 12), ("name: 'a\n", 2, 1)]
)
def test_an_error_says_where_from_one(text: str, line: int, column: int) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe_text(text)
    problem = caught.value.problems[0]
    assert (problem.line, problem.column) == (line, column)


class TestTheQuickParser:
    """libyaml reads most recipes, and PyYAML's own parser all others; nobody can tell which it was."""

    RECIPES = sorted(shipped_recipes().rglob("*.yaml"))
    PIECES = (
        *"ab1 .:-,[]{}#&*!|>'\"%@`?=\\\n\t\r\u2028\ufeff",
        "- ", ": ", "\n  ", "\n- ", "# x", "{a: b}", "[a, b]", "key: ", "|\n ", ">-\n ", "---", "? ", "null", "\u2192",
    )  # fmt: skip

    @staticmethod
    def said(text: str, monkeypatch: pytest.MonkeyPatch, *, quick: bool) -> Any:
        with monkeypatch.context() as patch:
            if not quick:
                patch.setattr(yaml_document, "_QUICK_READER", None)
            yaml_document._tree.cache_clear()
            try:
                return yaml_document._tree(text, "r.yaml")
            except RecipeError as error:
                return str(error)

    def alike(self, text: str, monkeypatch: pytest.MonkeyPatch) -> bool:
        quick = self.said(text, monkeypatch, quick=True)
        return bool(quick == self.said(text, monkeypatch, quick=False))

    def test_reads_all_that_ship(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for path in self.RECIPES:
            text = path.read_text(encoding="utf-8")
            assert yaml_document._quick_tree(text, "r.yaml") is not None, path
            assert self.alike(text, monkeypatch), path

    @pytest.mark.parametrize(
        "text",
        [
            "--- ", "a: |#b\n  c", "a: >-#b\n  c", "{a: , b: 1}", "[a: ]", "{a: x? y}", "? a\n: b", "a:\tb",
            "a: b\rc: d", "a: b\u2028c: d", "\ufeffa: b", "a: !b c", "a: &b c", "*a", "a: [b", "a: 012",
            "a: 1\na: 2", "", "# nothing",
        ],
    )  # fmt: skip
    def test_leaves_what_is_odd_to_the_other(self, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
        assert yaml_document._quick_tree(text, "r.yaml") is None
        assert self.alike(text, monkeypatch)

    def test_reads_broken_recipes_as_the_other(self, monkeypatch: pytest.MonkeyPatch) -> None:
        random = Random(20)
        texts = [path.read_text(encoding="utf-8") for path in self.RECIPES]
        wrong = []
        for _ in range(400):
            text = random.choice(texts)
            start = random.randrange(len(text))
            text = text[start : start + 200]
            for _ in range(random.randint(1, 3)):
                at = random.randrange(len(text) + 1)
                text = text[:at] + random.choice(self.PIECES) + text[at + random.randint(0, 2) :]
            if not self.alike(text, monkeypatch):
                wrong.append(text)
        assert wrong == []
