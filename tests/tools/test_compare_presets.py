"""What the script that compares the presets with llama-quantize makes of an answer."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
ANSWERS = {
    "Q4_K": ["blk.0.attn_v.weight", "blk.1.attn_v.weight", "blk.7.attn_v.weight", "blk.0.ffn_up.weight"],
    "Q6_K": ["output.weight", "blk.2.attn_v.weight", "enc.blk.3.attn_v.weight"],
}
TYPES = {name: type_ for type_, names in ANSWERS.items() for name in names}

# Stands in for llama-quantize: its help, and a dry run of a model with one layer. A shell starts it, since the first
# line of a script can't name an interpreter whose path is long or has a space.
START = """#!/bin/sh
exec "{python}" "{script}" "$@"
"""
PROGRAM = """import sys

if "--help" in sys.argv:
    print("usage: ...\\n allowed quantization types")
    print("  15  or  Q4_K_M  : 4 bits\\n  99  or  Q9_X : new\\n          COPY    : all")
elif "none" in sys.argv:
    print("version: 9 (build 1)")
else:
    print("[   1/   3] output_norm.weight  - [ 256, 1, 1, 1], type =    f32, size =  0.001 MiB")
    kept = "size =    0.02 MiB ->     0.01 MiB ({head})"
    print("[   2/   3] output.weight       - [ 256, 32, 1, 1], type =    f16, " + kept)
    print("[   3/   3] blk.0.attn_v.weight - [ 256, 64, 1, 1], type =    f16, size = 0.03 MiB -> 0.01 MiB (q6_K)")
"""
SHAPES = """{
  "quantrecipe_shapes": 1,
  "architecture": "llama",
  "metadata": {"llama.block_count": 1, "llama.attention.head_count": 4},
  "tensors": [
    {"name": "output_norm.weight", "type": "F32", "shape": [256]},
    {"name": "output.weight", "type": "F16", "shape": [32, 256]},
    {"name": "blk.0.attn_v.weight", "type": "F16", "shape": [64, 256]}
  ]
}
"""


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("compare_presets", ROOT / "tools/compare_presets.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_an_answer_becomes_one_line(tool: ModuleType) -> None:
    assert tool.compact(TYPES) == "Q4_K; Q6_K attn_v:2 enc.blk.*.attn_v output"


def test_differences_are_told_by_role(tool: ModuleType) -> None:
    theirs = TYPES | {f"blk.{n}.attn_v.weight": "Q5_K" for n in (0, 1, 7)}
    found = list(tool.compare("Q4_K_M", "tiny", TYPES, theirs))
    assert [(d.tensors, d.ours, d.theirs) for d in found] == [("attn_v 0-1,7", "Q4_K", "Q5_K")]
    assert not list(tool.compare("Q4_K_M", "tiny", TYPES, dict.fromkeys(TYPES, tool.CRASHED)))


@pytest.mark.skipif(
    sys.platform == "win32", reason="the stand-in is a script with a first line that Windows ignores"
)
@pytest.mark.parametrize(("head", "status"), [("q6_K", 0), ("q5_K", 1)])
def test_it_says_what_changed(
    tool: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    head: str,
    status: int,
) -> None:
    program, shapes = tmp_path / "llama-quantize", tmp_path / "tiny.json"
    script = tmp_path / "stand-in.py"
    script.write_text(PROGRAM.replace("{head}", head), encoding="utf-8")
    program.write_text(START.format(python=sys.executable, script=script), encoding="utf-8")
    program.chmod(0o755)
    shapes.write_text(SHAPES)
    monkeypatch.setattr("sys.argv", ["compare_presets", str(program), str(shapes), "--preset", "Q4_K_M"])
    assert tool.main() == status
    out = capsys.readouterr().out
    assert "version: 9" in out and "no preset for: Q9_X" in out
    assert ("Q4_K_M" in out) == ("Q5_K" in out) == bool(status)
