"""A finished tensor is what its journal says, or is made again: in the middle of a long tensor, and of any part."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.interrupted import left_after, put_back
from support.models import llama_tensors, write_gguf
from support.recipes import recipe, rule

from quantrecipe.model.open_model import open_model
from quantrecipe.output import first_rows, row_units
from quantrecipe.output.apply import Result, apply_plans
from quantrecipe.output.partfile import part_path
from quantrecipe.planning import make_plan
from quantrecipe.registry import load_registry


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("name", ["blk.0.ffn_gate.weight", "blk.0.attn_v.weight", "output_norm.weight"])
def test_whichever_part_has_other_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: int, name: str
) -> None:
    """ffn_gate is alike in both outputs, attn_v isn't, and the norm is copied."""
    registry = load_registry(plugins=False)
    source = open_model(write_gguf(tmp_path / "m.gguf", llama_tensors(layers=1)))
    monkeypatch.setattr(row_units.split, "__defaults__", (1, 20_000))
    monkeypatch.setattr(first_rows, "NOTE_SECONDS", 0.0)  # as many lines in each run
    folder = tmp_path / "out"
    folder.mkdir()
    mixes = [recipe(rule("attn_v", type_), default="Q4_K") for type_ in ("Q8_0", "Q6_K")]
    plans = [make_plan(mix, source, registry=registry) for mix in mixes]
    outs = [folder / "a.gguf", folder / "b.gguf"]
    pairs = list(zip(plans, outs, strict=True))

    def run() -> list[Result]:
        return apply_plans(pairs, registry=registry, threads=2, resume=True)

    total = left_after(-1, folder, run, monkeypatch, folder)
    peace = [out.read_bytes() for out in outs]
    for out in outs:
        out.unlink()
    left_after(total, folder, run, monkeypatch, tmp_path / "left")
    put_back(folder, tmp_path / "left")
    a = next(a for a in plans[which].assignments if a.tensor.name == name)
    with part_path(outs[which]).open("r+b") as file:
        file.seek(a.offset + a.nbytes * 3 // 4)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 4]))
    results = run()
    assert [it.path.read_bytes() for it in results] == peace
    assert [it.differing for it in results] == [(name,)] * 2
    size = sum(a.tensor.size for a in plans[0].assignments if a.tensor.name != name)
    assert results[0].left == size
