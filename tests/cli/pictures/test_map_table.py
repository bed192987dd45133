"""The map as a table: its headings say what they are about, and text from files is text."""

from __future__ import annotations

from support.pages import read_page

from quantrecipe.cli.pictures.map_table import Shown, map_html
from quantrecipe.pictures.layer_map import Stack, layer_map
from quantrecipe.plan.review.sides import Fate
from quantrecipe.tensor import TensorInfo


def stack(*names: str) -> Stack:
    fates = [
        Fate(tensor=TensorInfo.from_name(name, (256, 256), "BF16"), type="Q4_K", nbytes=100) for name in names
    ]
    (found,) = layer_map(fates).stacks
    return found


def test_fields_that_a_layer_lacks_are_empty() -> None:
    its = stack("blk.0.ssm_in.weight", "blk.1.attn_q.weight")
    table = read_page(map_html(its, lambda field: Shown(field[0]), caption="c", ident="i")).tables[0]
    assert table.rows[1:] == [["0", "blk.0.ssm_in.weight", ""], ["1", "", "blk.1.attn_q.weight"]]
    assert table.classes[1] == ["", "", "none"]


def test_the_table_says_what_it_is_and_what_its_headings_are_about() -> None:
    its = stack(*(f"blk.{layer}.ffn_<b>.weight" for layer in range(2)))
    shown = Shown('"<x>', "bits3", 'more "<y>')
    text = map_html(its, lambda _: shown, caption="types & <bits>", ident="one")
    page = read_page(text)
    assert page.problems == []
    (table,) = page.tables
    assert table.caption == "types & <bits>"
    assert table.rows == [["layer", "ffn_<b>"], ["0", '"<x>'], ["1", '"<x>']]
    assert table.scopes == ["col", "col", "row", "row"]
    assert ("td", "class", "bits3") in page.attributes
    assert ("td", "title", 'more "<y>') in page.attributes
    assert ("div", "tabindex", "0") in page.attributes
    assert ("div", "aria-labelledby", "one") in page.attributes
