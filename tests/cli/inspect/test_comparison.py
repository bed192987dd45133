"""quantrecipe inspect FILE OTHER: what differs between two files, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support.models import llama_metadata, llama_tensors, write_gguf

from quantrecipe.cli import main
from quantrecipe.cli.inspect import comparison
from quantrecipe.gguf.values import GGUFValue, ValueType

Output = pytest.CaptureFixture[str]
TENSORS = llama_tensors(layers=3, hidden=256, vocab=32)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file, and one in which much is another way."""
    monkeypatch.chdir(tmp_path)
    write_gguf(Path("a.gguf"), TENSORS, llama_metadata(block_count=3, context_length=10))
    other = dict(TENSORS)
    for layer in (1, 2):
        other[f"blk.{layer}.attn_v.weight"] = other[f"blk.{layer}.attn_v.weight"].copy()
        other[f"blk.{layer}.attn_v.weight"][-1, -1] += 1  # the last byte that is read
    other["blk.0.ffn_up.weight"] = np.zeros((512, 256), np.float32)
    other["more.weight"] = np.zeros((32, 32), np.float32)
    del other["blk.2.ffn_down.weight"]
    pairs = llama_metadata(block_count=3, context_length=20) | {
        "general.name": GGUFValue.of(ValueType.STRING, "b\x1b[2J")
    }
    write_gguf(Path("b.gguf"), other, pairs)


def said(capsys: Output, *line: str) -> dict[str, object]:
    assert main(["inspect", *line, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("chunk", [1 << 23, 1000])
def test_all_that_differs_is_found(chunk: int, capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "_CHUNK", chunk)
    found = said(capsys, "a.gguf", "b.gguf", "--data")
    assert found["first"] == "a.gguf"
    assert [it["name"] for it in found["only_first"]] == ["blk.2.ffn_down.weight"]
    assert [it["name"] for it in found["only_second"]] == ["more.weight"]
    (changed,) = found["changed"]
    assert (changed["name"], changed["first"]["shape"], changed["second"]["shape"]) == (
        "blk.0.ffn_up.weight",
        [256, 256],
        [512, 256],
    )
    assert found["contents_differ"] == ["blk.1.attn_v.weight", "blk.2.attn_v.weight"]
    assert found["same"] == len(TENSORS) - 2
    assert found["metadata"] == {
        "llama.context_length": {
            "first": {"type": "uint32", "value": 10},
            "second": {"type": "uint32", "value": 20},
        },
        "general.name": {"first": None, "second": {"type": "string", "value": "b\x1b[2J"}},
    }


def test_bytes_are_compared_if_asked_for_alone(capsys: Output) -> None:
    assert said(capsys, "a.gguf", "b.gguf")["contents_differ"] is None


def test_people_read_tables(capsys: Output) -> None:
    assert main(["inspect", "a.gguf", "b.gguf", "--data"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "llama.context_length 10 20" in lines
    assert "ffn_up 0 1 BF16 256 × 256 BF16 512 × 256 +128.00 KiB" in lines
    assert "ffn_down 2 1 BF16 not there -128.00 KiB" in lines
    assert "more 1 not there BF16 +2.00 KiB" in lines
    assert "other bytes: attn_v in the layers 1-2" in lines
    assert not any("\x1b" in line for line in lines)


def test_a_type_alone_may_differ(capsys: Output) -> None:
    assert main(["apply", "Q8_0", "a.gguf", "-o", "q.gguf"]) == 0
    capsys.readouterr()
    assert main(["inspect", "a.gguf", "q.gguf"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "attn_v 0-2 3 BF16 Q8_0 -90.00 KiB" in lines


def test_files_that_are_the_same(capsys: Output) -> None:
    assert main(["inspect", "a.gguf", "a.gguf", "--data", "--exit-code"]) == 0
    text = capsys.readouterr().out
    assert "the metadata is the same" in text
    assert "the bytes of these are the same" in text


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("a.gguf b.gguf --exit-code", 1),
        ("a.gguf b.gguf", 0),
        ("a.gguf b.gguf --filter *attn_v* --exit-code", 0),
        ("a.gguf b.gguf --filter *attn_v* --exit-code --data", 1),
        ("a.gguf b.gguf --roles", 2),
        ("a.gguf --data", 2),
        ("a.gguf --exit-code", 2),
        ("a.gguf nowhere.gguf", 1),
    ],
)
def test_the_exit_status(line: str, status: int) -> None:
    assert main(["inspect", *line.split()]) == status


def test_with_a_filter_nothing_is_said_of_metadata(capsys: Output) -> None:
    assert main(["inspect", "a.gguf", "b.gguf", "--filter", "*attn_v*"]) == 0
    assert "metadata" not in capsys.readouterr().out


def test_long_texts_are_shown_where_they_part(tmp_path: Path, capsys: Output) -> None:
    """Chat templates, and recipes with their parents, begin alike."""
    for name, last in (("one", "first"), ("other", "second")):
        template = GGUFValue.of(ValueType.STRING, f"{'{{ x }}' * 40}{last}{'.' * 100}")
        metadata = llama_metadata() | {"tokenizer.chat_template": template}
        write_gguf(tmp_path / f"{name}.gguf", llama_tensors(layers=1), metadata)
    main(["inspect", str(tmp_path / "one.gguf"), str(tmp_path / "other.gguf")])
    out = " ".join(capsys.readouterr().out.split())
    assert "… x }}{{ x }}first......" in out
    assert "… x }}{{ x }}second....." in out
    assert "(386 characters)" in out
