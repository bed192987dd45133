"""The same recipe with each format making its bytes by itself."""

from __future__ import annotations

from pathlib import Path

from quantrecipe.recipe.load import load_recipe
from quantrecipe.recipe.writing.without_encoders import with_plain_layers, without_encoders
from quantrecipe.registry import load_registry

REGISTRY = load_registry(plugins=False)
TEXT = """quantrecipe: 1
name: mine
default: Q4_K
importance: {file: matrices/code.gguf}
"""
RULES = "rules:\n  - tensors: attn_v\n    type: Q6_K\n"


def test_it_is_the_recipe_that_never_had_one(tmp_path: Path) -> None:
    """Digest and recorded text say so, and the matrix is still written as the recipe has it."""
    (tmp_path / "with.yaml").write_text(
        f"{TEXT}encoder: {{name: feedback, damping: 0.1}}\n{RULES}    encoder: feedback\n", "utf-8"
    )
    (tmp_path / "without.yaml").write_text(f"{TEXT}{RULES}", "utf-8")
    given, plain = (load_recipe(tmp_path / name, registry=REGISTRY) for name in ("with.yaml", "without.yaml"))
    made = without_encoders(given)
    assert made.encoder is None
    assert [rule.encoder for rule in made.rules] == [None]
    assert made.digest == plain.digest != given.digest
    assert "encoder" not in made.text
    assert '"file": "matrices/code.gguf"' in made.text
    assert [line for line in made.text.splitlines() if "# " not in line] == [
        line for line in plain.text.splitlines() if "# " not in line
    ]


def test_a_matrix_that_lies_elsewhere_is_named_without_its_folder(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(TEXT.replace("matrices", "/elsewhere"), "utf-8")
    made = without_encoders(load_recipe(tmp_path / "mine.yaml", registry=REGISTRY))
    assert '"file": "code.gguf"' in made.text


def test_layers_that_are_plain_join_those_that_are_left_out_already(tmp_path: Path) -> None:
    """As if the recipe had said so; a rule's encoder leaves them out as well as the recipe's own."""
    left_out = "{name: feedback, except_layers: 'last 1, 0-1, 5'}"
    (tmp_path / "with.yaml").write_text(
        f"{TEXT}encoder: {{name: feedback, except_layers: last 1}}\n{RULES}    encoder: feedback\n", "utf-8"
    )
    (tmp_path / "said.yaml").write_text(
        f"{TEXT}encoder: {left_out}\n{RULES}    encoder: {{name: feedback, except_layers: '0-1, 5'}}\n",
        "utf-8",
    )
    given, said = (load_recipe(tmp_path / name, registry=REGISTRY) for name in ("with.yaml", "said.yaml"))
    made = with_plain_layers(given, [5, 0, 1])
    assert made.digest == said.digest != given.digest
    assert (made.encoder, made.rules[0].encoder) == (said.encoder, said.rules[0].encoder)
    assert "0-1, 5" in made.text
