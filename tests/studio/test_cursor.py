"""Where the cursor is in a text that isn't YAML yet: the bar says where it stands."""

from __future__ import annotations

import pytest

from quantrecipe.studio.cursor import Place, Step, place_of, taken_behind, word_behind


def place(marked: str) -> Place | None:
    *above, before = marked.partition("|")[0].split("\n")
    return place_of(above, before)


@pytest.mark.parametrize(
    ("marked", "path"),
    [
        ("def|", ()),
        ("target:\n  engine: |", ("target", "engine")),
        ("target: {engine: x, device: |", ("target", "device")),
        ("target:\n  engine: x\ndefault: |", ("default",)),
        ("extends:\n- |", ("extends", None)),
        ("extends: [a, |", ("extends", None)),
        ("rules:\n  - tensors: a\n    type: |", ("rules", None, "type")),
        ("rules:\n  - {tensors: a,\n     type: |", ("rules", None, "type")),
        ("rules:\n  - {tensors: [head, |", ("rules", None, "tensors", None)),
        ("rules:\n  - {tensors: a}\n  - {type: |", ("rules", None, "type")),
        ("summary: >\n  a text\ndefault: |", ("default",)),
    ],
)
def test_the_way_there(marked: str, path: tuple[Step, ...]) -> None:
    found = place(marked)
    assert found is not None and found.path == path


@pytest.mark.parametrize(
    "marked", ["# |", "default: x # |", "summary: >\n  a text|", "default:|", "rules:\n  -|"]
)
def test_comments_and_long_texts_are_no_place(marked: str) -> None:
    assert place(marked) is None


def test_whether_a_key_or_a_value_may_stand_there() -> None:
    assert place("rules:\n  - {tensors: a, ty|") == Place(
        path=("rules", None), start=17, key=True, value=False, taken=frozenset({"tensors"})
    )
    assert place("rules:\n  - tensors: a\n    ty|") == Place(
        path=("rules", None), start=4, key=True, value=False, taken=frozenset({"tensors"}), indent=4
    )
    assert place("default: Q|") == Place(path=("default",), start=9, key=False, value=True, indent=9)
    assert place("extends:\n  - Q|") == Place(path=("extends", None), start=4, key=True, value=True, indent=4)


def test_what_stands_behind_the_cursor() -> None:
    key, within, value = place("de|"), place("target: {en|"), place("target: {engine: ol|")
    below, text = place("target:\n  en|"), place("summary: Q|")
    assert key and within and value and below and text
    assert word_behind("fault: Q4_K", key) == "fault"
    assert word_behind("gine , device: cpu}", within) == "gine"
    assert word_behind("lama , device: cpu}", value) == "lama"
    assert word_behind("4_K, or so  # it is", text) == "4_K, or so"
    assert taken_behind("gine, device: cpu, n: 1} # x: ", [], within) == {"device", "n"}
    assert taken_behind("fault: x", ["name: y", "rules:", "  - type: z"], key) == {"name", "rules"}
    assert taken_behind("gine: x", ["  device: y", "default: z", "  n: 1"], below) == {"device"}
