"""SARIF: valid, with places and levels."""

import json
import os
from pathlib import Path
from urllib.parse import quote

import jsonschema
import pytest
from support.linting import REGISTRY, TARGETS, report

from quantrecipe.lint import CODES, lint
from quantrecipe.lint.annotations import artifact, to_sarif

URI = {"type": "string", "format": "uri-reference", "pattern": r"^[^\s\\\\]+$"}
LEVEL = {"enum": ["none", "note", "warning", "error"]}
MESSAGE = {"type": "object", "required": ["text"], "properties": {"text": {"type": "string", "minLength": 1}}}
REGION = {
    "type": "object",
    "required": ["startLine"],
    "properties": {name: {"type": "integer", "minimum": 1} for name in ("startLine", "startColumn")},
    "additionalProperties": False,
}
LOCATION = {
    "type": "object",
    "properties": {
        "physicalLocation": {
            "type": "object",
            "required": ["artifactLocation"],
            "properties": {
                "artifactLocation": {"type": "object", "required": ["uri"], "properties": {"uri": URI}},
                "region": REGION,
            },
            "additionalProperties": False,
        },
        "logicalLocations": {
            "type": "array",
            "items": {"type": "object", "required": ["fullyQualifiedName"]},
        },
    },
    "additionalProperties": False,
}
SCHEMA = {
    "type": "object",
    "required": ["version", "runs"],
    "properties": {
        "version": {"const": "2.1.0"},
        "runs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["tool", "results"],
                "properties": {
                    "columnKind": {"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
                    "results": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["message"],
                            "properties": {
                                "ruleId": {"type": "string"},
                                "ruleIndex": {"type": "integer", "minimum": -1},
                                "level": LEVEL,
                                "message": MESSAGE,
                                "locations": {"type": "array", "items": LOCATION},
                            },
                            "additionalProperties": False,
                        },
                    },
                },
            },
        },
    },
}
"""What SARIF 2.1.0 asks of the parts that are used; all of it was held against the published schema once."""


def test_it_is_valid(tmp_path: Path) -> None:
    text = "target: {engine: ollama}\ndefault: TQ2_0\nrules:\n  - {tensors: head, type: Q4_K}\n"
    shipped = lint("pure/Q4_K", registry=REGISTRY, targets=TARGETS)
    document = to_sarif([report(tmp_path, text), report(tmp_path, "name: 012\n"), shipped])
    assert document["runs"][0]["results"]
    jsonschema.validate(document, SCHEMA)


def test_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    document = to_sarif([report(Path(), "default: Q4K\ndefautl: 1\n")])
    assert json.loads(json.dumps(document)) == document
    assert (document["version"], len(document["runs"])) == ("2.1.0", 1)
    driver = document["runs"][0]["tool"]["driver"]
    assert driver["name"] == "quantrecipe"
    assert [rule["id"] for rule in driver["rules"]] == list(CODES)
    first, second = document["runs"][0]["results"]
    assert (first["ruleId"], first["level"]) == ("QR003", "error")
    assert driver["rules"][first["ruleIndex"]]["id"] == "QR003"
    assert first["message"]["text"].startswith("there is no format 'Q4K'; did you mean")
    place = first["locations"][0]["physicalLocation"]
    assert place == {
        "artifactLocation": {"uri": "recipe.yaml"},
        "region": {"startLine": 3, "startColumn": 10},
    }
    assert second["ruleId"] == "QR002"


def test_levels_are_those_that_sarif_has(tmp_path: Path) -> None:
    text = "default: IQ2_S\nrules:\n  - {tensors: head, type: Q4_K}\n"
    (run,) = to_sarif([report(tmp_path, text)])["runs"]
    assert {result["level"] for result in run["results"]} == {"warning", "note"}
    assert {rule["defaultConfiguration"]["level"] for rule in run["tool"]["driver"]["rules"]} == {
        *("error", "warning", "note")
    }


def test_shipped_recipes_have_names_instead_of_places() -> None:
    checked = lint("pure/Q4_K", registry=REGISTRY, targets=TARGETS)
    (run,) = to_sarif([checked])["runs"]
    for result in run["results"]:
        assert "logicalLocations" in result["locations"][0]


def test_uris(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("ü".encode(), b"\xfc"):  # the second is a name, too, though no UTF-8
        path = os.fsdecode(b"a b/" + name + b".yaml")
        assert artifact(path) == f"a%20b/{quote(name)}.yaml"
    assert artifact(tmp_path / "x.yaml") == "x.yaml"
    assert artifact("/elsewhere/x.yaml") == "file:///elsewhere/x.yaml"
    assert artifact("llama.cpp@b11312/Q4_K_M") is None
