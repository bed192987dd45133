"""The coverage of an importance matrix on a screen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich.console import Console
from support.imatrix_files import write_gguf_imatrix

from quantrecipe.cli.planned.coverage_table import render_coverage
from quantrecipe.importance.coverage import coverage
from quantrecipe.importance.read_importance import read_importance
from quantrecipe.tensor import TensorInfo


def shown(tensors: list[TensorInfo], path: Path) -> list[str]:
    console = Console(width=120, markup=False, highlight=False)
    report = coverage(tensors, read_importance(path), model=tensors)
    with console.capture() as capture:
        console.print(render_coverage(report))
    return [line.rstrip() for line in capture.get().splitlines() if line.strip()]


def tensor(name: str, *shape: int) -> TensorInfo:
    return TensorInfo.from_name(name, shape, "BF16")


def test_a_model_of_60_layers_fits_on_a_screen(tmp_path: Path) -> None:
    tensors = [tensor("token_embd.weight", 100, 8), tensor("output.weight", 100, 8)]
    entries = {}
    for i in range(61):
        for role in ("attn_q", "attn_k", "attn_v", "attn_output"):
            tensors.append(tensor(f"blk.{i}.{role}.weight", 8, 8))
            if i < 60:  # the last layer predicts the token after next; no calibration runs it
                entries[tensors[-1].name] = (np.ones((1, 8), np.float32), [512])
        for role in ("ffn_up_exps", "ffn_down_exps"):
            tensors.append(tensor(f"blk.{i}.{role}.weight", 4, 8, 8))
            if i < 60:
                entries[tensors[-1].name] = (np.ones((4, 8), np.float32), [9, 0 if i < 3 else 1, 9, 9])
    path = write_gguf_imatrix(tmp_path / "m.gguf", entries)
    lines = shown(tensors, path)
    assert lines[0].startswith("m.gguf (360 entries; 10 chunks of 512; text): covers 360 of 368 tensors")
    assert len(lines) < 20
    text = "\n".join(lines)
    assert "6 of 24 experts never seen" in text
    assert "0-2" in text


def test_full_coverage_is_one_line(tmp_path: Path) -> None:
    path = write_gguf_imatrix(tmp_path / "m.gguf", {"output.weight": (np.ones((1, 8), np.float32), [1])})
    assert len(shown([tensor("output.weight", 100, 8)], path)) == 1


def test_misfits_and_strangers(tmp_path: Path) -> None:
    ones = np.ones((1, 8), np.float32)
    entries = {f"blk.{i}.attn_q.weight": (ones, [1]) for i in range(6)}
    entries |= {"blk.0.attn_k.weight": (np.ones((1, 16), np.float32), [1])}
    path = write_gguf_imatrix(tmp_path / "m.gguf", entries)
    tensors = [tensor(f"blk.{i}.attn_q.weight", 8, 8) for i in range(4)] + [
        tensor("blk.0.attn_k.weight", 8, 8)
    ]
    text = "\n".join(shown(tensors, path))
    assert "of another size: 16 values (expected: 8)" in text
    assert "2 entries belong to no tensor of the model: blk.4.attn_q.weight, blk.5.attn_q.weight" in text


def test_entries_that_stand_in_are_one_line_for_each_kind(tmp_path: Path) -> None:
    entries = {f"blk.{i}.attn_qkv.weight": (np.ones((1, 8), np.float32), [1]) for i in range(4)}
    entries |= {f"blk.{i}.ffn_gate_up_exps.weight": (np.ones((2, 8), np.float32), [1, 1]) for i in (0, 1, 3)}
    path = write_gguf_imatrix(tmp_path / "m.gguf", entries)
    tensors = [tensor(f"blk.{i}.attn_{r}.weight", 8, 8) for i in range(4) for r in "qkv"]
    tensors += [tensor(f"blk.{i}.ffn_{r}_exps.weight", 2, 8, 8) for i in (0, 1, 3) for r in ("gate", "up")]
    assert shown(tensors, path)[1:] == [
        "attn_k, attn_q, attn_v take the entry of attn_qkv (same inputs): layers 0-3",
        "ffn_gate_exps, ffn_up_exps take the entry of ffn_gate_up_exps (same inputs): layers 0-1, 3",
    ]


def test_heads_of_latent_attention_take_one_entry(tmp_path: Path) -> None:
    path = write_gguf_imatrix(
        tmp_path / "m.gguf", {"blk.0.attn_kv_b.weight": (np.ones((1, 8), np.float32), [1])}
    )
    assert shown([tensor("blk.0.attn_v_b.weight", 2, 4, 8)], path)[1:] == [
        "attn_v_b takes the entry of attn_kv_b (one for all heads): layers 0"
    ]


def test_layers_for_next_token_prediction_have_a_line_of_their_own(tmp_path: Path) -> None:
    path = write_gguf_imatrix(
        tmp_path / "m.gguf", {"blk.0.attn_q.weight": (np.ones((1, 8), np.float32), [1])}
    )
    tensors = [tensor(f"blk.{i}.attn_q.weight", 8, 8) for i in range(4)]
    tensors += [tensor(f"blk.3.nextn.{role}.weight", 8, 8) for role in ("eh_proj", "shared_head_head")]
    lines = [" ".join(line.split()) for line in shown(tensors, path)]
    assert "attn_q 1-2 2 none" in lines
    assert (
        "attn_q, nextn.eh_proj, nextn.shared_head_head 3 3 none: a layer for next-token prediction (MTP)"
        in lines
    )
