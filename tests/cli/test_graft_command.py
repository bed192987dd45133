"""quantrecipe graft: from two files to one, whose tensors are theirs to the byte."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.models import llama_metadata, llama_tensors, write_gguf

from quantrecipe.cli import main
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.model.open_model import open_model

Output = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A base in Q8_0 without a draft head, and a donor in BF16 with one."""
    monkeypatch.chdir(tmp_path)
    pairs = llama_metadata(block_count=3)
    write_gguf(Path("whole.gguf"), llama_tensors(layers=3, hidden=256, vocab=32), pairs)
    assert main(["apply", "llama.cpp/Q8_0", "whole.gguf", "-o", "base.gguf"]) == 0
    pairs = llama_metadata(block_count=4) | {"llama.nextn_predict_layers": GGUFValue.of(ValueType.UINT32, 1)}
    tensors = llama_tensors(layers=4, hidden=256, vocab=32, seed=1)
    tensors["blk.3.nextn.eh_proj.weight"] = tensors["blk.3.attn_q.weight"]
    write_gguf(Path("donor.gguf"), tensors, pairs)


def data(path: str) -> dict[str, bytes]:
    """Each tensor's bytes as they lie in the file."""
    found = {}
    for name, source in open_model(path).sources.items():
        (extent,) = source.extents
        raw = extent.path.read_bytes()
        found[name] = raw[extent.offset : extent.offset + extent.nbytes]
    return found


def test_what_is_taken_is_the_donors_and_all_else_the_bases(capsys: Output) -> None:
    assert main(["graft", "base.gguf", "donor.gguf", "--tensors", "attn_v", "--layers", "0-1", "--mtp"]) == 0
    assert "wrote base-graft.gguf" in capsys.readouterr().out
    base, donor, made = data("base.gguf"), data("donor.gguf"), data("base-graft.gguf")
    taken = {name for name in donor if name.startswith("blk.3.")} | {
        "blk.0.attn_v.weight",
        "blk.1.attn_v.weight",
    }
    assert made == {**base, **{name: donor[name] for name in taken}}
    assert main(["verify", "base-graft.gguf"]) == 0
    capsys.readouterr()
    assert main(["inspect", "base-graft.gguf", "--recipe"]) == 0
    assert "attn_v, layers for next-token prediction in layers 0-1" in capsys.readouterr().out


def test_the_label_stays_the_bases() -> None:
    assert main(["graft", "base.gguf", "donor.gguf", "--tensors", "head", "-o", "made.gguf"]) == 0
    key = "general.file_type"
    assert open_model("made.gguf").metadata[key] == open_model("base.gguf").metadata[key]


def test_what_is_taken_can_be_quantized(capsys: Output) -> None:
    line = [
        "graft",
        "base.gguf",
        "donor.gguf",
        "--tensors",
        "head",
        "--mtp",
        "--type",
        "Q4_K",
        "--json",
        "-o",
        "made.gguf",
    ]
    assert main(line) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["replaced"] == ["output.weight"]
    assert said["output"] == "made.gguf"
    assert main(["apply", "pure/Q4_K", "donor.gguf", "-o", "q4.gguf"]) == 0
    made, quantized, base, donor = (data(f"{it}.gguf") for it in ("made", "q4", "base", "donor"))
    assert made["output.weight"] == quantized["output.weight"]
    assert made["blk.3.ffn_down.weight"] == quantized["blk.3.ffn_down.weight"]
    assert made["blk.3.nextn.eh_proj.weight"] == quantized["blk.3.nextn.eh_proj.weight"]
    assert made["blk.3.ffn_norm.weight"] == donor["blk.3.ffn_norm.weight"]
    assert made["blk.2.ffn_down.weight"] == base["blk.2.ffn_down.weight"]


def test_dry_run_writes_nothing(capsys: Output) -> None:
    before = sorted(Path().iterdir())
    assert main(["graft", "base.gguf", "donor.gguf", "--mtp", "--dry-run"]) == 0
    assert "would write base-graft.gguf" in capsys.readouterr().out
    assert main(["graft", "base.gguf", "donor.gguf", "--mtp", "--dry-run", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert len(said["added"]) == sum(name.startswith("blk.3.") for name in data("donor.gguf"))
    assert said["nbytes"] > 0
    assert sorted(Path().iterdir()) == before


@pytest.mark.parametrize(
    ("line", "status", "message"),
    [
        ("base.gguf donor.gguf", 2, "say what is taken"),
        ("base.gguf donor.gguf --mtp --layers 0", 2, "--layers says in which layers"),
        ("base.gguf base.gguf --mtp", 1, "has no layers for next-token prediction"),
        ("base.gguf donor.gguf --tensors head --type Q9_Z", 1, "Q9_Z"),
        ("donor.gguf base.gguf --tensors head --type Q4_K", 1, "already quantized"),
        ("base.gguf donor.gguf --tensors head -o base.gguf", 1, "exists"),
        ("base.gguf donor.gguf --tensors head -o donor.gguf --force", 1, "donor.gguf"),
        ("base.gguf nothing.gguf --tensors head", 1, "there is no such file"),
    ],
)
def test_what_is_refused(line: str, status: int, message: str, capsys: Output) -> None:
    before = {path: path.read_bytes() for path in Path().iterdir()}
    assert main(["graft", *line.split()]) == status
    assert message in " ".join(capsys.readouterr().err.split())
    assert {path: path.read_bytes() for path in Path().iterdir()} == before


def test_a_folder_is_refused_with_the_way_out(capsys: Output) -> None:
    example = Path(__file__).parents[2] / "examples" / "tiny-code"
    assert main(["graft", str(example), "donor.gguf", "--tensors", "head"]) == 1
    assert "quantrecipe apply llama.cpp/BF16 MODEL" in " ".join(capsys.readouterr().err.split())
