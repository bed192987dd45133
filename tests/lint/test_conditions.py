"""QR204 to QR207 and QR212: layers and conditions about everything, or nothing."""

from pathlib import Path

import pytest
from support.linting import found, given, reference, small_model, what

from quantrecipe.model.reference_models import reference_models

RULE = """\
rules:
  - tensors: ffn_down
    {key}
    type: Q6_K
    why: a
    optional: true
"""


@pytest.mark.parametrize(
    ("key", "code"),
    [
        ("layers: first 1/8", None),
        ("layers: first 8/8", "QR204"),
        ("layers: every 1", "QR204"),
        ("when: rank < count", "QR206"),
        ("when: rank < count//2", None),
        ("when: cols % 32 == 1", "QR205"),
        ("when: dims == 2", "QR206"),
        ("when: covered", None),  # it depends on the matrix
        ("when: n_layers > 0", None),  # a few models can't tell
        ("when: arch == 'falcon'", None),  # there are more architectures
        ("when: source_type == 'MXFP4'", None),  # of these models too
        ("when: source_type in ['FP8', 'mxfp4']", "QR212"),
        ("when: \"'INT5' == source_type or arch == 'INT3'\"", "QR212"),
    ],
)
def test_on_a_few_models(tmp_path: Path, key: str, code: str | None) -> None:
    expected = [] if code is None else [(code, "warning", 4)]
    assert found(tmp_path, RULE.format(key=key)) == expected


def test_many_models_can_tell_of_conditions_about_the_model(tmp_path: Path) -> None:
    models = reference(*reference_models())
    assert found(tmp_path, RULE.format(key="when: n_layers > 0"), models) == [("QR206", "warning", 4)]
    assert found(tmp_path, RULE.format(key="when: n_layers > 500"), models) == [("QR205", "warning", 4)]
    assert found(tmp_path, RULE.format(key="when: n_expert > 1"), models) == []


@pytest.mark.parametrize(("text", "code"), [("true", "QR206"), ("1 > 2", "QR205")])
def test_a_condition_without_facts_needs_no_model(tmp_path: Path, text: str, code: str) -> None:
    assert found(tmp_path, RULE.format(key=f"when: {text}"), []) == [(code, "warning", 4)]


def test_a_source_type_that_there_isn_t(tmp_path: Path) -> None:
    said = what(tmp_path, RULE.format(key="when: source_type == 'mxfp4'"), "QR212")
    assert said == "there is no source type 'mxfp4'; write 'MXFP4'"
    facts = RULE.format(key="when: few") + "facts: {few: \"source_type == 'INT3'\"}\n"
    assert what(tmp_path, facts, "QR212").startswith(
        "there is no source type 'INT3'; write the name of a type, or"
    )


def test_layers_beyond_the_model(tmp_path: Path) -> None:
    text = RULE.format(key="layers: 2-39")
    model = small_model(tmp_path, layers=8)
    assert ("QR207", "warning", 4) in found(tmp_path, text, [model])
    assert "2-39 go beyond small-8-256.json, which has layers 0-7" in what(tmp_path, text, "QR207", [model])
    assert found(tmp_path, text) == []  # of other models it may be true


def test_a_condition_that_fails(tmp_path: Path) -> None:
    text = RULE.format(key="when: rows // n_expert > 1")
    assert found(tmp_path, text, given("shapes/qwen3-0.6b")) == [("QR209", "error", 4)]
    assert "divides by zero" in what(tmp_path, text, "QR209", given("shapes/qwen3-0.6b"))
