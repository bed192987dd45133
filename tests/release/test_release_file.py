"""release.yaml: what it may say, its schema and its page, and every problem at once, each at its line."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from quantrecipe.errors import RecipeError
from quantrecipe.recipe.budget import BUDGET_KEYS, KV_TYPES
from quantrecipe.registry import load_registry
from quantrecipe.release.release import DEFAULT_NAME, Release
from quantrecipe.release.release_file import (
    FILE_KEYS,
    FIT_KEYS,
    IMATRIX_KEYS,
    MEASURE_KEYS,
    MEMORY_KEYS,
    RELEASE_KEYS,
    parse_release,
    read_release,
)

REGISTRY = load_registry(plugins=False)
SCHEMA: dict[str, Any] = json.loads(
    (files("quantrecipe.release") / "schema.json").read_text(encoding="utf-8")
)
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
PAGE = (Path(__file__).parents[2] / "docs/release.md").read_text(encoding="utf-8")

WHOLE = """\
release: 1
name: My-Model-7B
base_model: owner/My-Model-7B
quantized_by: me
license: apache-2.0
language: [en, ru]
tags: code
repo: me/My-Model-7B-GGUF
description: |
  Two lines
  of *Markdown*.
files:
  - Q8_0
  - recipe: recipes/mine.yaml
    name: "{model}-CODE.gguf"
    set: {heads: Q6_K, deep: true, last: 3}
    imatrix: none
    split: 10GB
    note: for code
  - fit: {size: 5GB, types: "Q*_K", texts: [search.txt], ties: [[attn_q, attn_k]]}
imatrix: {texts: [code=calib/code.txt:2, prose.txt], context: [512, 4k], chunks: 100}
statistics: grams
sensitivity: costs.jsonl
measure: {texts: code=val/code.txt, chunks: 40, context: 256}
mmproj: [F16, recipes/tower.yaml]
mtp: none
split: 50GB
memory: {context: 32k, kv: q8_0}
"""


def parsed(text: str, folder: Path = Path()) -> Release:
    return parse_release(text, file="release.yaml", folder=folder, registry=REGISTRY)


def problems(text: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        parsed(text)
    return [str(it) for it in caught.value.problems]


def test_all_that_it_may_say() -> None:
    it = parsed(WHOLE, Path("there"))
    assert (it.name, it.base_model, it.quantized_by) == ("My-Model-7B", "owner/My-Model-7B", "me")
    assert (it.languages, it.tags, it.description) == (("en", "ru"), ("code",), "Two lines\nof *Markdown*.\n")
    preset, mine, fitted = it.files
    assert (preset.recipe, preset.name, preset.line) == ("Q8_0", DEFAULT_NAME, 13)
    assert (mine.recipe, mine.imatrix, mine.split) == ("there/recipes/mine.yaml", "none", 10 * 10**9)
    assert dict(mine.settings) == {"heads": "Q6_K", "deep": "true", "last": "3"}
    assert fitted.fit is not None
    assert (fitted.fit.budget.size, fitted.fit.types, fitted.fit.texts) == (
        5 * 10**9,
        ("Q*_K",),
        ("there/search.txt",),
    )
    assert [[str(pattern) for pattern in tie] for tie in fitted.fit.budget.ties] == [["attn_q", "attn_k"]]
    assert it.imatrix is not None
    assert it.imatrix.texts == ("code=there/calib/code.txt:2", "there/prose.txt")
    assert (it.imatrix.contexts, it.imatrix.chunks) == ((512, 4096), 100)
    assert it.measure is not None
    assert (it.measure.texts, it.measure.chunks, it.measure.context) == (
        ("code=there/val/code.txt",),
        40,
        256,
    )
    assert (it.statistics, it.sensitivity) == (Path("there/grams"), Path("there/costs.jsonl"))
    assert it.mmproj is not None
    assert (it.mmproj.recipes, it.mmproj.line) == (("F16", "there/recipes/tower.yaml"), 25)
    assert it.mtp is not None
    assert it.mtp.recipes == ()
    assert (it.split, it.memory.context, it.memory.kv) == (50 * 10**9, 32768, "q8_0")


@pytest.mark.parametrize(
    ("budget", "label"),
    [
        ("{size: 5GB}", "fit-5GB"),
        ("{bpw: 4.5}", "fit-4.5bpw"),
        ("{like: llama.cpp/Q4_K_M}", "fit-like-Q4_K_M"),
        ("{vram: {total: 12GiB, context: 32k}}", "fit-vram12GiB"),
        ("{kld: 0.01, ties: [a]}", "fit-kld0.01"),
        ("{size: '5,2 GB'}", ""),
    ],
)
def test_what_a_mix_is_called(budget: str, label: str) -> None:
    text = f"release: 1\nfiles: [{{fit: {budget}}}]\n"
    if not label:
        assert "did you mean 5.2 GB?" in problems(text)[0]
        return
    wish = parsed(text).files[0].fit
    assert wish is not None
    assert wish.label == label


def test_a_path_with_a_sign_in_it_is_a_path_where_it_is_there(tmp_path: Path) -> None:
    text = "release: 1\nfiles: [Q8_0]\nmeasure: {texts: 'a=b.txt'}\n"
    for texts in (f"a={tmp_path}/b.txt", f"{tmp_path}/a=b.txt"):
        wish = parsed(text, tmp_path).measure
        assert wish is not None
        assert wish.texts == (texts,)
        (tmp_path / "a=b.txt").write_text("x", encoding="utf-8")


def test_what_is_left_out() -> None:
    it = parsed("release: 1\nfiles: [Q8_0]\n")
    assert (it.name, it.base_model, it.license, it.imatrix, it.measure, it.split) == (
        "",
        "",
        "",
        None,
        None,
        None,
    )
    assert (it.memory.context, it.memory.kv) == (8192, "f16")
    assert parsed("release: 1\nfiles: [Q8_0]\nimatrix: none\n").imatrix is None
    matrix = parsed("release: 1\nfiles: [Q8_0]\nimatrix: a.gguf\n", Path("there")).imatrix
    assert matrix is not None
    assert matrix.file == Path("there/a.gguf")


WRONG = {
    "release: 2\nfiles: [Q8_0]\n": ["1: release: 2 is a version that isn't known; write release: 1"],
    "files: [Q8_0]\n": ["1: the key `release` is missing; start with `release: 1`"],
    "release: 1\n": ["1: the release has no `files`"],
    "release: 1\nfiles: []\n": ["2: the release has no `files`"],
    "- 1\n": ["1: a release must be a mapping, not a list"],
    "release: 1\nnmae: x\nfiles: [Q8_0]\n": ["2: unknown key 'nmae' in a release; did you mean 'name'?"],
    "release: 1\nfiles: [{recipe: a, fit: {size: 1GB}}, {}, 3]\n": [
        "2: a file has both `recipe` and `fit`",
        "2: a file has neither `recipe` nor `fit`",
        "2: a file must be a mapping, not a number",
    ],
    "release: 1\nfiles: [{fit: {}}, {fit: {ties: [a]}}, {fit: {bpw: 99}}]\n": [
        "2: fit has no limit",
        "2: fit has no limit",
        "2: bpw must be a number of bits",
    ],
    "release: 1\nfiles: [{fit: {like: Q8_0, bpw: 4}}]\n": [
        "2: `like` and `bpw` both say how large the file is; leave one out"
    ],
    "release: 1\nfiles: [Q8_0]\nmmproj: []\nmtp: 3\n": [
        "3: the list `mmproj` is empty; name a recipe, or write mmproj: none",
        "4: mtp must be the name of a recipe or a list of them",
    ],
    "release: 1\nfiles: [{fit: {size: 1GB, prior: true, texts: [a]}}]\n": [
        "2: `prior: true` measures nothing, and `texts` are measured on; leave one out"
    ],
    "release: 1\nfiles: [{recipe: a, name: a.bin},\n {recipe: a, name: '{x}.gguf'}, {recipe: a, name: ../a.gguf}]\n": [
        "2: name: 'a.bin' doesn't end with .gguf",
        "3: name: '{x}.gguf' has a place {x} that isn't known; known are {model} and {recipe}",
        "3: name: '../a.gguf' may have letters of ASCII, digits",
    ],
    "release: 1\nname: a/b\nbase_model: a\nrepo: a/b--c\nlicense: Apache 2\nfiles: [Q8_0]\n": [
        "2: name: 'a/b' may have letters of ASCII, digits",
        "3: base_model: 'a' is no OWNER/NAME",
        "4: repo: 'a/b--c' has -- or .. in it, which the hub refuses",
        "5: license: 'Apache 2' is no license as the hub names them",
    ],
    "release: 1\nfiles: [Q8_0]\nimatrix: {chunks: 0}\nmeasure: {texts: [], context: [1, 2]}\n": [
        "3: imatrix has no `texts`",
        "3: chunks must be a whole number, more than 0",
        "4: the list `texts` is empty",
        "4: context must be one number",
    ],
    "release: 1\nfiles: [Q8_0]\nsplit: 50\nmemory: {context: 5, kv: q9}\n": [
        "3: split: '50' has no unit, and would be 50 bytes; did you mean 50GB?",
        "4: context: a context of 5 tokens is too short for anything",
        "4: kv: 'q9' isn't known",
    ],
    "release: 1\nfiles: [{recipe: a, set: {x: [1]}}, {recipe: b, set: 3}]\n": [
        "2: x must be one value",
        "2: set must be a mapping",
    ],
    "release: 1\nfiles: &a [Q8_0]\n": ["2: &a is an anchor in YAML, and releases have none"],
    "": [" the release is empty; start with `release: 1`"],
}


@pytest.mark.parametrize("text", WRONG)
def test_every_problem_is_told_at_its_line(text: str) -> None:
    found = problems(text)
    assert len(found) == len(WRONG[text]), found
    for problem, expected in zip(found, WRONG[text], strict=True):
        assert problem.startswith(f"release.yaml:{expected}"), problem


@pytest.mark.parametrize(
    ("name", "data", "what"),
    [
        ("a.yaml", None, r"can't be read: No such file or directory; `quantrecipe release --init MODEL`"),
        ("b.yaml", b"release: 1\nname: \xff", r"b\.yaml:2: the release isn't UTF-8 text"),
        ("c.gguf", b"GGUF\3\0\0\0", r"is not a release, but a GGUF file"),
        (
            "d.yaml",
            b"quantrecipe: 1\n",
            r"is not a release, but a recipe; give it where a command has RECIPE",
        ),
    ],
)
def test_files_that_are_none(name: str, data: bytes | None, what: str, tmp_path: Path) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(RecipeError, match=what):
        read_release(tmp_path / name, REGISTRY)


def test_the_schema_is_one_and_has_the_keys_of_the_loader() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    keys = SCHEMA["properties"]
    assert tuple(keys) == RELEASE_KEYS
    file = keys["files"]["items"]["oneOf"][1]["properties"]
    assert tuple(file) == FILE_KEYS
    assert tuple(file["fit"]["properties"]) == FIT_KEYS
    assert FIT_KEYS[: len(BUDGET_KEYS)] == BUDGET_KEYS
    assert tuple(keys["imatrix"]["oneOf"][1]["properties"]) == IMATRIX_KEYS
    assert tuple(keys["measure"]["properties"]) == MEASURE_KEYS
    assert tuple(keys["memory"]["properties"]) == MEMORY_KEYS
    assert tuple(keys["memory"]["properties"]["kv"]["enum"]) == KV_TYPES


def test_every_key_has_a_hover_text() -> None:
    def nodes(node: Any) -> list[tuple[str, Any]]:
        own = list(node.get("properties", {}).items()) if isinstance(node, dict) else []
        below = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
        return own + [it for value in below for it in nodes(value)]

    assert [name for name, node in nodes(SCHEMA) if not node.get("description")] == []


@pytest.mark.parametrize("text", [WHOLE, *re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)])
def test_what_is_right_by_the_loader_is_so_by_the_schema(text: str) -> None:
    parsed(text)
    VALIDATOR.validate(yaml.safe_load(text))


# What only the loader knows of: names of places and repositories, what goes together, sizes without a unit.
DEEPER = ("bpw: 4}", "{x}", "b--c", "ties: [a]", "prior: true", "split: 50", "context: 5,")


@pytest.mark.parametrize(
    "text", [it for it in WRONG if it and "&a" not in it and not any(d in it for d in DEEPER)]
)
def test_what_is_wrong_by_the_loader_is_so_by_the_schema(text: str) -> None:
    assert not VALIDATOR.is_valid(yaml.safe_load(text))


@pytest.mark.parametrize(
    "key",
    sorted({*RELEASE_KEYS, *FILE_KEYS, *FIT_KEYS, *IMATRIX_KEYS, *MEASURE_KEYS, *MEMORY_KEYS, *KV_TYPES}),
)
def test_the_page_names_every_key(key: str) -> None:
    assert re.search(rf"`{re.escape(key)}`", PAGE)
