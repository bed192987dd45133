"""What the page is told of a plan: every tensor is in it once, and sums are those of the plan."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.models import llama_metadata, write_gguf
from support.studio import SMALL

from quantrecipe.pictures.shades import SCALES
from quantrecipe.registry import load_registry
from quantrecipe.speed.clock import Pace
from quantrecipe.studio.document import Shown, model_document, plan_document
from quantrecipe.studio.editing import edited
from quantrecipe.studio.moves import Goal, moved
from quantrecipe.studio.opened import Knowledge, Opened, open_for_studio

Opens = Callable[[str], Opened]
MIXED = "shapes/qwen3.6-27b"
TEXT = """\
quantrecipe: 1
name: mine
default: Q4_K
rules:
  - {tensors: attn_v, layers: first 4, type: Q6_K, why: "values are small"}
  - {tensors: ffn_down, type: Q5_K}
"""


def of_text(opened: Opened, text: str = TEXT, **more: Any) -> dict[str, Any]:
    found = edited(opened, text, Path())
    assert found.plan is not None
    return plan_document(opened, Shown(plan=found.plan, recipe=found.recipe, **more))


def cells(document: dict[str, Any]) -> list[dict[str, Any]]:
    maps = [document["map"], *document["more"]]
    rows = chain.from_iterable(it["rows"] for it in maps)
    return [*(cell for row in rows for cell in row["cells"] if cell is not None), *document["outside"]]


@pytest.mark.parametrize("name", [SMALL, pytest.param(MIXED, marks=pytest.mark.slow)])
def test_every_tensor_is_told_of_once(name: str, opened_for_tests: Opens) -> None:
    opened = opened_for_tests(name)
    goal = Goal(kind="bits", value=4.5)
    found = moved(opened, goal)
    document = plan_document(opened, Shown(plan=found.plan, goal=goal, moved=found))
    data = sum(a.nbytes for a in found.plan.assignments)
    for parts in (document["groups"], document["types"], cells(document)):
        assert sum(it["tensors"] for it in parts) == len(found.plan.assignments)
        assert sum(it["bytes"] for it in parts) == data
    assert document["bytes"] == found.plan.nbytes
    assert [it["bytes"] for it in document["types"]] == sorted(
        (it["bytes"] for it in document["types"]), reverse=True
    )
    assert len({it["name"] for it in document["groups"]}) == len(document["groups"]) or name == MIXED
    known = {f"bits{step}" for step in range(len(SCALES["bits"]))}
    assert {it["shade"] for it in [*document["types"], *cells(document)]} <= known
    columns = document["map"]["columns"]
    assert all(len(row["cells"]) == len(columns) for row in document["map"]["rows"])


def test_rules_and_their_reasons(opened_for_tests: Opens) -> None:
    groups = {(it["role"], it["type"]): it for it in of_text(opened_for_tests(SMALL))["groups"]}
    first = groups["attn_v", "Q6_K"]
    assert (first["layers"], first["line"], first["why"], first["tensors"]) == (
        "0-3",
        5,
        "values are small",
        4,
    )
    down = groups["ffn_down", "Q5_K"]
    assert (down["line"], down["why"].startswith("loses ")) == (6, True)
    assert groups["attn_v", "Q4_K"]["line"] == 3  # the default's
    assert groups["attn_norm", "F32"]["line"] is None  # of the kept list, in another file
    assert groups["attn_norm", "F32"]["why"]


def test_a_type_that_is_not_possible(tmp_path: Path) -> None:
    rows = np.ones((32, 288), np.float32)  # no super-blocks
    path = write_gguf(tmp_path / "model.gguf", {"blk.0.ffn_up.weight": rows}, llama_metadata(block_count=1))
    opened = open_for_studio(path, Knowledge(registry=load_registry(plugins=False)))
    (group,) = of_text(opened, "quantrecipe: 1\ndefault: Q4_K\n")["groups"]
    assert (group["type"], group["line"]) == ("Q5_0", 2)
    assert group["why"] == "Q4_K isn't possible here: its 288 columns don't divide into blocks of 256"


def test_beside_a_base(opened_for_tests: Opens) -> None:
    opened = opened_for_tests(SMALL)
    base = opened.base("llama.cpp/Q4_K_M")
    assert opened.base("llama.cpp/Q4_K_M") is base
    document = of_text(opened, base=base)
    before = {a.tensor.name: a.type for a in base.plan.assignments}
    plan = edited(opened, TEXT, Path()).plan
    assert plan is not None
    changed = [a for a in plan.assignments if before[a.tensor.name] != a.type]
    changes = document["changes"]
    assert changes["tensors"] == len(changed) > 0
    assert changes["groups"] == len({(a.tensor.role, before[a.tensor.name], a.type) for a in changed})
    assert changes["bytes"] == plan.nbytes - base.plan.nbytes
    assert changes["bits"] == plan.bits_per_weight - base.plan.bits_per_weight
    assert changes["loss"] == pytest.approx(document["loss"]["value"] / document["loss"]["base"], rel=1e-4)
    marked = [it for it in cells(document) if it["base_type"] != it["type"]]
    assert sum(it["tensors"] for it in marked) == len(changed)
    assert all(it["base_type"] in it["label"] for it in marked)
    same = of_text(opened, "quantrecipe: 1\nextends: llama.cpp/Q4_K_M\n", base=base)["changes"]
    assert (same["tensors"], same["groups"], same["loss"], same["bits"]) == (0, 0, 1.0, 0.0)


def test_without_a_base_nothing_is_compared(opened_for_tests: Opens) -> None:
    document = of_text(opened_for_tests(SMALL))
    assert document["changes"] is None
    assert {it["base_type"] for it in [*cells(document), *document["groups"]]} == {None}


def test_layers_that_are_pruned(opened_for_tests: Opens) -> None:
    """The model that is planned is another one then."""
    opened = opened_for_tests(SMALL)
    document = of_text(opened, TEXT + "prune: last 2\n", base=opened.base("llama.cpp/Q4_K_M"))
    assert len(document["map"]["rows"]) == opened.model.n_layers - 2
    assert document["changes"]["tensors"] > 22
    assert document["memory"]["cache"] < of_text(opened)["memory"]["cache"]


def test_a_small_gpu(opened_for_tests: Opens) -> None:
    opened = opened_for_tests(SMALL)
    for value, fits in ((700_000_000, False), (4_000_000_000, True)):
        goal = Goal(kind="vram", value=value, context=8192, kv="q8_0")
        memory = of_text(opened, goal=goal)["memory"]
        assert (memory["fits"], memory["context"], memory["kv"]) == (fits, 8192, "Q8_0")
        assert memory["total"] == memory["weights"] + memory["cache"] + memory["compute"]
    assert of_text(opened)["memory"]["fits"] is None


def test_speed_where_it_was_measured(opened_for_tests: Opens, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = opened_for_tests(SMALL)
    assert of_text(opened)["speed"] is None
    assert model_document(opened)["knows"]["speed"] is None
    paces = iter([Pace(token=31.23456, prompt=None), Pace(token=None, prompt=None)])
    monkeypatch.setattr(opened, "speeds", {"cpu": "measured"})
    monkeypatch.setattr("quantrecipe.studio.document.pace_here", lambda *asked: next(paces))
    found = of_text(opened, base=opened.base("llama.cpp/Q8_0"))["speed"]
    assert found == {"tokens_per_second": 31.23, "kind": "measured", "base": None}
    assert model_document(opened)["knows"]["speed"] == "measured"


def test_the_range_can_be_asked_for(opened_for_tests: Opens) -> None:
    """Between the ends that a model has, a goal is kept."""
    opened = opened_for_tests(SMALL)
    for kind, key in (("size", "bytes"), ("bits", "bits"), ("vram", "vram")):
        least, most = model_document(opened)["range"][key]
        assert least < most
        for share in (0.05, 0.95):
            goal = Goal(kind=kind, value=least + share * (most - least))
            assert moved(opened, goal).limit == "" or kind == "vram"
