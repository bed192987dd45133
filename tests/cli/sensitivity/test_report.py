"""The report on a sensitivity: its page is whole, and its figures get along with each other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.mixes import known
from support.models import llama_metadata, llama_tensors, write_gguf
from support.pages import read_page

from quantrecipe.cli.sensitivity.report import write_report
from quantrecipe.model.open_model import open_model
from quantrecipe.registry import load_registry

pytest.importorskip("matplotlib")


def test_the_page_has_no_id_twice_and_its_figures_have_titles(tmp_path: Path) -> None:
    registry = load_registry(plugins=False)
    write_gguf(tmp_path / "model.gguf", llama_tensors(layers=2), llama_metadata())
    model = open_model(tmp_path / "model.gguf", registry=registry)
    write_report(known(model, registry), tmp_path / "r.html", force=False)
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    page = read_page(text)
    assert page.problems == []
    assert {it.split("-")[1] for it in page.ids} == {"costs", "losses", "front"}
    assert text.count('role="img" aria-labelledby="figure-') == 3
    used = re.findall(r'href="#([^"]*)"|url\(#([^)]*)\)', text)
    assert {one or other for one, other in used} <= {*page.ids}
    assert "<metadata" not in text
    assert text.count("<style") == 1
