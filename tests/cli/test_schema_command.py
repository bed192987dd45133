"""quantrecipe schema, and the schema that ships: the names that are there, and no others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from support.distributions import FORMAT, install, run_python

from quantrecipe.cli import main
from quantrecipe.cli.schema import schema_of
from quantrecipe.recipe.schema import schema_text
from quantrecipe.recipe.shipped_recipes import shipped_recipes
from quantrecipe.registry import load_registry

Output = pytest.CaptureFixture[str]
SHIPPED = Path(__file__).parents[2] / "quantrecipe/recipe/schema.json"
REGISTRY = load_registry(plugins=False)


def proposed(schema: dict[str, Any], name: str) -> dict[str, str]:
    return {it["const"]: it.get("description", "") for it in schema["$defs"][name]["anyOf"] if "const" in it}


def test_the_schema_that_ships_has_what_ships() -> None:
    """`quantrecipe --no-plugins schema -o quantrecipe/recipe/schema.json --force` brings it up to date."""
    assert SHIPPED.read_text(encoding="utf-8") == schema_text(schema_of(REGISTRY))


def test_formats_recipes_roles_and_layers_are_proposed_with_their_meaning() -> None:
    schema = json.loads(SHIPPED.read_text(encoding="utf-8"))
    types = proposed(schema, "type")
    assert types["Q4_K"].startswith("4.5 bits per weight; ")
    assert {name for name, it in REGISTRY.formats.items() if it.spec.codec} | {"keep"} == set(types)
    assert set(proposed(schema, "recipe")) == set(shipped_recipes(REGISTRY))
    assert {"attn_v", "ffn_down_exps", "head", "ssm_out", "output"} <= set(proposed(schema, "pattern"))
    assert "first 4" in proposed(schema, "layers")
    assert "keep" not in proposed(schema, "format")


@pytest.mark.parametrize(
    "rule",
    [
        "{tensors: strange_role, type: IQ9_FUTURE, layers: '3, 5-7'}",
        "{tensors: ['blk.*.attn_[kv]', group:x], choose: [Q4_K, NOBODYS]}",
        "{tensors: attn_v, type: $mine, fallback: Q9}",
    ],
)
def test_other_names_are_allowed(rule: str) -> None:
    text = f"quantrecipe: 1\nextends: [theirs/x, mine.yaml]\ndefault: NOBODYS\nrules: [{rule}]\n"
    jsonschema.Draft202012Validator(json.loads(SHIPPED.read_text())).validate(yaml.safe_load(text))


def test_plugins_are_in_it(tmp_path: Path) -> None:
    hook = "\n\n@hookimpl\ndef quantrecipe_formats():\n    return [Half()]\n"
    install(tmp_path, "quantrecipe-half", FORMAT + hook)
    types = run_python(
        """
        import json
        from quantrecipe.cli.schema import schema_of
        from quantrecipe.registry import load_registry
        print(json.dumps([it.get("const") for it in schema_of(load_registry())["$defs"]["type"]["anyOf"]]))
        """,
        site=tmp_path,
    )
    assert "HALF" in types


def test_it_is_printed_or_written(tmp_path: Path, capsys: Output) -> None:
    assert main(["--no-plugins", "schema"]) == 0
    text = capsys.readouterr().out
    assert text == SHIPPED.read_text(encoding="utf-8")
    file = tmp_path / "s.json"
    assert main(["--no-plugins", "schema", "-o", str(file)]) == 0
    assert file.read_text(encoding="utf-8") == text
    assert main(["--no-plugins", "schema", "-o", str(file)]) == 1
    assert "--force" in capsys.readouterr().err
