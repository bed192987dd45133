"""docs/architectures.md: its tables are what the architectures and the recordings say.

WRITE_DOCS=1 pytest tests/model/architectures/test_page.py      writes them anew
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from support.recorded_architectures import NAMES, PROJECTORS, inexact, read_recorded

from quantrecipe.model.architectures.families import ALL

from .test_recorded import ADDED, KEYS_IN_PLACE, OWN_TYPES

PAGE = Path(__file__).parents[3] / "docs" / "architectures.md"


def classes() -> Iterator[str]:
    """A line for each architecture of llama.cpp."""
    yield "| GGUF | classes in `config.json` |"
    yield "|---|---|"
    for name in sorted({it.name for it in ALL if it.part == "model"}):
        found = {one for it in ALL if it.name == name and it.part == "model" for one in it.classes}
        yield f"| {name} | {', '.join(sorted(found))} |"
    seeing = {one for it in ALL if it.part == "mmproj" for one in it.classes}
    yield f"| clip (`--mmproj`) | {', '.join(sorted(seeing))} |"
    drafting = {one for it in ALL if it.part == "mtp" for one in it.classes}
    if drafting:
        yield f"| draft heads (`--mtp`) | {', '.join(sorted(drafting))} |"


def recordings() -> Iterator[str]:
    """A line for each folder whose tokenizer was recorded, too."""
    yield "| class | GGUF | weights | tensors and keys |"
    yield "|---|---|---|---|"
    rows = set()
    for name in NAMES:
        answer = read_recorded(name)
        arch = next(value for key, _, value in answer["metadata"] if key == "general.architecture")
        kinds = {kind for kind, _ in read_recorded(name, "weights.json").values()}
        rows.add(f"| {answer['class']} | {arch} | {stored(kinds)} | {result(name)} |")
    yield from sorted(rows)


def stored(kinds: Iterable[str]) -> str:
    """Of which type the matrices are."""
    found = set(kinds)
    if found & {"F8_E4M3", "F8_E8M0"}:
        return "FP8 and MXFP4" if "F8_E8M0" in found else "FP8 and NVFP4" if "U8" in found else "FP8"
    if "U8E" in found:
        return "MXFP4"
    if any(kind.startswith("I32") for kind in found):
        return "INT4"
    return "ternary" if "U8" in found else "BF16"


def result(name: str) -> str:
    """How equal it is, as test_recorded.py holds it."""
    said = "equal"
    if name in OWN_TYPES:
        said = "equal, in the types that the recipe says"
    elif name in ADDED:
        said = f"equal; {', '.join(sorted(ADDED[name]))} besides"
    elif inexact(name):
        computed = {tensor.rpartition(".")[2] if "blk." in tensor else tensor for tensor in inexact(name)}
        said = f"equal; {', '.join(sorted(computed))} within one unit in the last place"
    elif name in KEYS_IN_PLACE:
        said = "equal but for the order of keys"
    if name in PROJECTORS:
        said += "; the projector, too"
    return said


def page() -> str:
    """The page, with its tables made anew."""
    text = PAGE.read_text(encoding="utf-8")
    for mark, lines in (("classes", classes()), ("recorded", recordings())):
        before, _, rest = text.partition(f"<!-- table: {mark} -->\n")
        _, _, after = rest.partition("<!-- end -->")
        text = f"{before}<!-- table: {mark} -->\n" + "\n".join(lines) + f"\n<!-- end -->{after}"
    return text


def test_the_tables_are_true() -> None:
    made = page()
    if os.environ.get("WRITE_DOCS"):
        PAGE.write_text(made, encoding="utf-8")
    assert made == PAGE.read_text(encoding="utf-8"), "WRITE_DOCS=1 pytest on this file writes the page anew"
