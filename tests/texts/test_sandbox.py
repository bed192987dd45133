"""Templates of strangers: what transformers offers them, and an end to what doesn't end."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from jinja2.exceptions import TemplateRuntimeError

from quantrecipe.texts.sandbox import CompiledTemplate, RenderingError, _check_made


def rendered(source: str, **variables: Any) -> str:
    return CompiledTemplate(source).render(variables)[0]


WRITES = {
    "blocks leave no line": ("{% if true %}\n  {% set a = 1 %}\n{{ a }}\n{% endif %}\n", "1\n"),
    "json as it is": ("{{ {'a': '<é>'} | tojson }}", '{"a": "<é>"}'),
    "json in lines": ("{{ [1] | tojson(indent=1) }}", "[\n 1\n]"),
    "one date": ("{{ strftime_now('%d %b %Y') }}", "26 Jul 2024"),
    "continue": ("{% for i in range(3) %}{% if i == 1 %}{% continue %}{% endif %}{{ i }}{% endfor %}", "02"),
    "break": ("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "01"),
    "namespaces": ("{% set n = namespace(x=1) %}{% for i in 'ab' %}{% set n.x = n.x + 1 %}{% endfor %}{{ n.x }}", "3"),
    "macros": ("{% macro m(a) %}<{{ a }}>{% endmacro %}{{ m(1) ~ m(2) }}", "<1><2>"),
    "recursive loops": ("{% for a in t recursive %}{{ a.v }}{{ loop(a.c) }}{% endfor %}", "12"),
    "loop facts": ("{% for a in 'ab' %}{{ loop.index0 }}{{ loop.last }}{{ loop.length }}{% endfor %}", "0False21True2"),
    "map": ("{{ t | map(attribute='v') | list }}", "[1]"),
    "select": ("{{ t | selectattr('v', 'equalto', 1) | list | length }}", "1"),
    "methods": ("{{ ' a-b '.strip().split('-') | join('+') }}{{ '%s:%d' % ('x', 3) }}{{ '{}'.format(4) }}", "a+bx:34"),
    "slices": ("{{ 'abc'[::-1] }}{{ [1, 2, 3][1:] }}", "cba[2, 3]"),
    "what isn't there": ("{{ nothing }}{{ nothing is defined }}", "False"),
    "replace": ("{{ 'a b' | replace(' ', '_') }}{{ 'a b'.replace(' ', '') }}", "a_bab"),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRITES)
def test_what_templates_use_works(kind: str) -> None:
    source, expected = WRITES[kind]
    assert rendered(source, t=[{"v": 1, "c": [{"v": 2, "c": []}]}]) == expected


BOMBS = {
    "long range": "{% for i in range(10 ** 12) %}{% endfor %}",
    "range of more than a machine's number": "{% for i in range(10 ** 30) %}{% endfor %}",
    "loops in loops": "{% for i in range(900) %}{% for j in range(900) %}{% endfor %}{% endfor %}",
    "loops over what is given": "{% for i in m %}{% for j in m %}{% for k in m %}{% endfor %}{% endfor %}{% endfor %}",
    "macros": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(40) }}",
    "a macro without end": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "work on a text": "{% for i in range(9000) %}{% set a = big | upper %}{% endfor %}",
    "times": "{{ 'x' * 10 ** 9 }}",
    "times from the right": "{{ (10 ** 9) * [1] }}",
    "powers": "{{ (10 ** 1000) ** (10 ** 9) }}",
    "doubled by +": "{% set n = namespace(x='ab') %}{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}",
    "doubled by ~": "{% set n = namespace(x='ab') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "doubled by set": "{% set n = namespace(x='ab') %}{% for i in range(60) %}{% set y %}{{ n.x }}{{ n.x }}"
    "{% endset %}{% set n.x = y %}{% endfor %}",
    "doubled lists": "{% set n = namespace(x=[1]) %}{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}",
    "nested lists": "{% set n = namespace(x=[1]) %}{% for i in range(60) %}{% set n.x = [n.x, n.x] %}{% endfor %}"
    "{{ n.x }}",
    "nested lists as json": "{% set n = namespace(x=[1]) %}{% for i in range(60) %}{% set n.x = [n.x, n.x] %}"
    "{% endfor %}{{ n.x | tojson }}",
    "written within set": "{% set y %}{% for i in range(9000) %}{{ big }}{% endfor %}{% endset %}",
    "template text within set": "{% set y %}{% for i in range(9000) %}"
    + "x" * 9000
    + "{% endfor %}{% endset %}",
    "output": "{% for i in range(9000) %}{{ big }}{% endfor %}",
    "center": "{{ 'x' | center(1000000000) }}",
    "the method center": "{{ 'x'.center(1000000000) }}",
    "indent": "{{ 'x\ny' | indent(1000000000) }}",
    "a width": "{{ '%999999999d' % 1 }}",
    "a width that is given": "{{ '%*d' % (999999999, 1) }}",
    "the method format": "{{ '{:999999999}'.format(1) }}",
    "replace": "{{ big | replace('x', big) }}",
    "the method replace": "{{ big.replace('', big) }}",
    "join": "{{ ([1] * 9000) | join(big) }}",
    "join of long texts": "{{ ([big] * 9000) | join }}",
    "the method join": "{{ ''.join([big] * 9000) }}",
    "json of long texts": "{{ ([big] * 9000) | tojson }}",
    "a format of long texts": "{{ '%s' % ([big] * 9000,) }}",
    "squares of a number": "{% set n = namespace(x=3) %}{% for i in range(90) %}{% set n.x = n.x * n.x %}{% endfor %}",
    "a long number": "{{ ('f' * 9000000) | int(0, 16) }}",
    "a search": "{% for i in range(9000) %}{% set a = 'y' in big %}{% endfor %}",
    "a search by a method": "{% for i in range(9000) %}{% set a = big.find('y') %}{% endfor %}",
    "a search by a test": "{% for i in range(9000) %}{% set a = 'y' is in big %}{% endfor %}",
    "a comparison": "{% set b = big ~ '' %}{% for i in range(9000) %}{% set a = big == b %}{% endfor %}",
    "a comparison of lists": "{% for i in range(9000) %}{% set a = [m * 90] == [m * 90] %}{% endfor %}",
    "what is cut out": "{% for i in range(9000) %}{% set a = big[1:] %}{% endfor %}",
    "batches that are filled": "{{ [1] | batch(99999999, 0) | list | length }}",
    "slices": "{{ [1] | slice(99999999) | list | length }}",
    "json with a wide indent": "{{ ([[1] * 90] * 90) | tojson(indent=4000) }}",
    "translate": "{{ big.translate({120: big}) }}",
}


@pytest.mark.parametrize("kind", BOMBS)
def test_bombs_are_stopped(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Smaller limits, so that each is reached at once. Without them, these would take gigabytes or hours.
    monkeypatch.setattr("quantrecipe.texts.sandbox._LONGEST", 1 << 20)
    monkeypatch.setattr("quantrecipe.texts.sandbox._WRITTEN", 1 << 22)
    template = CompiledTemplate(BOMBS[kind], steps=50_000)
    with pytest.raises(RenderingError, match=r"it (takes|writes|makes)|RecursionError|there is no translate"):
        template.render({"big": "x" * 100_000, "m": list(range(100))})


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("join", (["a"] * 40, "x" * 40)),
        ("replace", ("a" * 40, "a", "x" * 40)),
        ("replace", ("a" * 40, "", "x" * 40)),
        ("upper", (["a" * 40] * 40,)),
        ("center", ("a", 1001)),
        ("format", ("{:100000}", 1)),
    ],
)
def test_what_would_be_too_long_is_not_made_at_all(
    name: str, given: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quantrecipe.texts.sandbox._LONGEST", 1000)
    with pytest.raises(TemplateRuntimeError, match="more than 1,000 characters"):
        _check_made(name, given)
    monkeypatch.setattr("quantrecipe.texts.sandbox._LONGEST", 2000)
    if name != "format":
        _check_made(name, given)


@pytest.mark.parametrize("link", [".a", "[0]", "|upper"])
def test_long_chains_are_compiled_in_no_time(link: str) -> None:
    start = time.process_time()
    for _ in range(10):
        CompiledTemplate("{{ a" + link * 150 + " }}")
    assert time.process_time() - start < 1


def test_a_long_chat_is_no_bomb() -> None:
    """Ten thousand messages of a thousand characters, of which a template uses each several times."""
    source = (
        "{% for m in messages %}{% set c = m.content | trim %}"
        "{{ '<|' ~ m.role ~ '|>' + c.split('</think>')[-1].lstrip('\n') + '\n' }}{% endfor %}"
    )
    messages = [{"role": "user", "content": "x" * 1000}] * 10_000
    assert len(rendered(source, messages=messages)) == 10_000 * (len("<|user|>") + 1001)


FAILS = {
    "a syntax error": ("a\n{% if %}", 2, "isn't valid Jinja: Expected an expression"),
    "an unknown filter": ("a\n\n{{ b | random }}", 3, "No filter named 'random'"),
    "what it raises": ("a\n{{ raise_exception('no ' ~ 'system') }}", 2, "no system"),
    "what isn't there": ("{{ a.b.c }}", 1, "'a' is undefined"),
    "a type": ("\n{{ 'a' + 1 }}", 2, "TypeError: can only concatenate"),
    "Python's inside": ("{{ ''.__class__.__mro__ }}", 1, "unsafe"),
    "a change of what is given": ("\n\n\n{{ messages.append(1) }}", 4, "unsafe"),
    "loops too deep for Python": (
        "{% for i in m %}" * 30 + "{% endfor %}" * 30,
        None,
        "too many statically nested",
    ),
    "tags too deep for Python": (
        "{% if a %}" * 120 + "{% endif %}" * 120,
        None,
        "too many levels of indentation",
    ),
    "a name twice": ("{{ f(a=1, a=2) }}", None, "keyword argument repeated"),
    "a number of 5000 digits": ("{{ " + "9" * 5000 + " }}", None, "can't be compiled: ValueError"),
    "deep nesting": ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", None, "can't be compiled"),
}


@pytest.mark.parametrize("kind", FAILS)
def test_what_fails_is_named_with_its_line(kind: str) -> None:
    source, line, what = FAILS[kind]
    with pytest.raises(RenderingError) as caught:
        rendered(source, messages=[])
    assert what in caught.value.what
    assert caught.value.line == line


def test_what_gives_another_answer_each_time_is_not_there() -> None:
    for source in ("{{ lipsum() }}", "{{ [1, 2] | random }}", "{{ now() }}"):
        with pytest.raises(RenderingError):
            rendered(source)


def test_generation_tags_mark_what_the_assistant_says() -> None:
    template = CompiledTemplate(
        "u{% for a in said %}:{% generation %}{{ a }}!{% endgeneration %}{% endfor %}."
    )
    assert template.marks_answers
    assert template.render({"said": ["é", ""]}) == ("u:é!:!.", ((2, 4), (5, 6)))
    assert template.render({"said": []}) == ("u.", ())
    assert not CompiledTemplate("{{ said }}").marks_answers


def test_marks_are_characters_that_nothing_has() -> None:
    template = CompiledTemplate("{{ a }}{% generation %}{{ b }}{% endgeneration %}")
    rare = "".join(map(chr, range(0xFDD0, 0xFDEE)))
    assert template.render({"a": rare, "b": {"x": [1]}})[0] == rare + "{'x': [1]}"
    with pytest.raises(RenderingError, match="every character that could mark"):
        template.render({"a": rare, "b": "\ufdee\ufdef"})


def test_a_template_is_rendered_again_and_again() -> None:
    template = CompiledTemplate("{% for i in range(30) %}{{ i }}{% endfor %}", steps=100)
    renderings: set[str] = {template.render({})[0] for _ in range(10)}
    assert len(renderings) == 1


def test_steps_are_counted_for_each_turn() -> None:
    source: Callable[[int], str] = lambda turns: f"{{% for i in m[:{turns}] %}}{{% endfor %}}"  # noqa: E731  # short
    CompiledTemplate(source(100), steps=110).render({"m": [1] * 200})
    with pytest.raises(RenderingError, match="more than 110 steps"):
        CompiledTemplate(source(200), steps=110).render({"m": [1] * 200})
