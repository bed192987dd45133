"""From Python: paths in place of values, what notebooks show, data frames; and docs/python.md, which is run."""

from __future__ import annotations

import builtins
import io
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from support.imatrix_files import write_gguf_imatrix
from support.models import llama_metadata, llama_tensors, write_gguf

import quantrecipe as qr
from quantrecipe.errors import QuantrecipeError
from quantrecipe.notebook import Shown

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "tiny-code"
RECIPE = ROOT / "recipes" / "code-model.yaml"


def test_the_page_is_true(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("recipes", "examples"):
        shutil.copytree(ROOT / folder, folder)
    page = (ROOT / "docs/python.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(compile(block, "docs/python.md", "exec"), names)  # the page of this repository
    assert Path("tiny-code.gguf").stat().st_size == names["plan"].nbytes


def test_every_public_name_is_on_the_page() -> None:
    page = (ROOT / "docs/python.md").read_text(encoding="utf-8")
    table = page.split("## The names")[1]
    assert [name for name in qr.__all__ if not name.startswith("_") and f"`{name}(" not in table] == []


def test_paths_stand_for_what_they_name() -> None:
    registry = qr.load_registry(plugins=False)
    recipe, model = qr.load_recipe(RECIPE, registry=registry), qr.open_model(EXAMPLE, registry=registry)
    plan = qr.make_plan(recipe, model, registry=registry)
    for paths in ((RECIPE, EXAMPLE), (str(RECIPE), str(EXAMPLE)), ("code-model", model)):
        assert qr.make_plan(*paths, registry=registry).digest == plan.digest
    with pytest.raises(QuantrecipeError, match="no such file"):
        qr.make_plan(RECIPE, "nowhere/")


def test_a_recipe_by_its_path_brings_its_matrix(tmp_path: Path) -> None:
    model = qr.open_model(EXAMPLE)
    matrix = tmp_path / "m.gguf"
    matrices = [it for it in model.tensors if len(it.shape) > 1]
    write_gguf_imatrix(matrix, {it.name: (np.ones(it.cols, np.float32), [1]) for it in matrices})
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("quantrecipe: 1\ndefault: Q4_K\nimportance: {file: m.gguf}\n", encoding="utf-8")
    assert qr.make_plan(recipe, model).importance is not None
    assert (
        qr.make_plan(qr.load_recipe(recipe), model).importance is None
    )  # as it says: reading is the caller's part
    assert qr.make_plan("llama.cpp/Q4_K_M", model, importance=matrix).importance is not None


@pytest.fixture
def hostile(tmp_path: Path) -> Any:
    """A model with a name of a tensor that is markup, and moves the cursor."""
    tensors = llama_tensors(layers=2)
    tensors["<script>alert(1)</script>\x1b[2J.weight"] = tensors["blk.0.attn_q.weight"]
    write_gguf(tmp_path / "m.gguf", tensors, llama_metadata(block_count=2))
    return qr.open_model(tmp_path / "m.gguf")


def test_values_show_a_line_and_a_table(hostile: Any) -> None:
    plan = qr.make_plan("llama.cpp/Q8_0", hostile)
    recipe = qr.load_recipe("code-model")
    for value, begin, cell in (
        (plan, "<Plan 'Q8_0' of ", "Q8_0"),
        (hostile, "<Model '", "BF16"),
        (recipe, "<Recipe 'code-model': ", "token_embd"),
    ):
        assert repr(value).startswith(begin)
        assert "\n" not in repr(value)
        page = value._repr_html_()
        assert f">{cell}</td>" in page
        assert "<script>" not in page
        assert "\x1b" not in page
        assert page.count("<tr>") - 1 == page.count("</tr>") - 1 == len(value._shown().rows)
        console = Console(file=io.StringIO(), width=80)
        console.print(value)
        assert isinstance(console.file, io.StringIO)
        text = console.file.getvalue()
        assert cell in text
        assert "\x1b" not in text
        assert max(map(len, text.splitlines())) <= 80


def test_a_plan_shows_one_line_for_tensors_that_are_treated_alike() -> None:
    shown = qr.make_plan("llama.cpp/Q4_K_M", EXAMPLE)._shown()
    assert shown.headings[:4] == ("tensor", "layers", "count", "type")
    assert ("attn_k", "0-3", "4", "Q4_K", "4.50", "72.00 KiB") in [row[:6] for row in shown.rows]


def test_rich_leaves_out_what_only_a_page_has_room_for() -> None:
    shown = Shown(title="t", headings=("a", "b"), rows=[("1", "2")], numbers=("a",), extra=("b",))
    assert [str(column.header) for column in shown.__rich__().columns] == ["a"]
    assert 'scope="col">b</th>' in shown.html()
    assert 'text-align: right">1</td>' in shown.html()


def test_frames_have_a_line_for_each_tensor() -> None:
    plan = qr.make_plan(RECIPE, EXAMPLE)
    frame = plan.to_pandas()
    assert len(frame) == len(plan.assignments)
    assert frame["nbytes"].sum() == sum(a.nbytes for a in plan.assignments)
    head = frame.set_index("name").loc["token_embd.weight"]
    assert (head["type"], head["role"], head["size"], head["source_type"]) == (
        "Q6_K",
        "token_embd",
        524_288,
        "BF16",
    )
    assert head["shape"] == (2048, 256)
    assert plan.model.to_pandas()["size"].sum() == plan.size
    assert list(plan.model.to_pandas()["layer"].dropna().unique()) == [0, 1, 2, 3]


def test_without_pandas_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found = builtins.__import__

    def without(name: str, *args: Any, **more: Any) -> Any:
        if name == "pandas":
            raise ImportError(name)
        return found(name, *args, **more)

    plan = qr.make_plan(RECIPE, EXAMPLE)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match="pip install pandas"):
        plan.to_pandas()
