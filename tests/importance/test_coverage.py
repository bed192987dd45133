"""What an importance matrix says on a model, told before any work."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.imatrix_files import write_gguf_imatrix

from quantrecipe.errors import ImportanceError
from quantrecipe.importance.coverage import coverage
from quantrecipe.importance.matrix import Importance
from quantrecipe.importance.read_importance import read_importance
from quantrecipe.plain_data import plain
from quantrecipe.tensor import TensorInfo

DATA = Path(__file__).parent.parent / "data" / "imatrix"


def tensor(name: str, *shape: int) -> TensorInfo:
    return TensorInfo.from_name(name, shape, "BF16")


@pytest.fixture
def importance(tmp_path: Path) -> Importance:
    row = np.ones((1, 4), np.float32)
    experts = np.ones((3, 4), np.float32)
    entries = {
        "blk.0.attn_q.weight": (row, [9]),
        "blk.0.ffn_up_exps.weight": (experts, [9, 0, 1]),
        "blk.0.ffn_gate_inp.weight": (row, [9]),
        "blk.0.attn_v.weight": (np.ones((1, 8), np.float32), [9]),
        "blk.7.attn_q.weight": (row, [9]),
    }
    return read_importance(write_gguf_imatrix(tmp_path / "m.gguf", entries))


QUANTIZABLE = [
    tensor("blk.0.ffn_up_exps.weight", 3, 8, 4),
    tensor("blk.0.attn_q.weight", 8, 4),
    tensor("blk.0.attn_v.weight", 8, 4),
    tensor("output.weight", 100, 4),
]
OTHERS = [tensor("blk.0.ffn_gate_inp.weight", 3, 4), tensor("output_norm.weight", 4)]


def test_tells_each_case(importance: Importance) -> None:
    found = coverage(QUANTIZABLE, importance, model=OTHERS)
    names = {
        kind: [item.tensor.name for item in getattr(found, kind)]
        for kind in ("covered", "partly", "missing", "misfit")
    }
    assert names == {
        "covered": ["blk.0.attn_q.weight", "blk.0.ffn_up_exps.weight"],
        "partly": ["blk.0.ffn_up_exps.weight"],
        "missing": ["output.weight"],
        "misfit": ["blk.0.attn_v.weight"],
    }
    assert found.partly[0].fit.unseen == (1,)
    assert found.unmatched == ("blk.7.attn_q.weight",)


def test_entries_of_tensors_that_are_kept_are_not_unmatched(importance: Importance) -> None:
    assert "blk.0.ffn_gate_inp.weight" in importance.entries
    assert "blk.0.ffn_gate_inp.weight" not in coverage(QUANTIZABLE, importance, model=OTHERS).unmatched


def test_is_plain_data_for_machines(importance: Importance) -> None:
    said = plain(coverage(QUANTIZABLE, importance, model=OTHERS))
    assert said["entries"] == 5
    assert said["digest"] == importance.digest
    by_name = {item["name"]: item for item in said["tensors"]}
    assert by_name["blk.0.ffn_up_exps.weight"]["unseen_experts"] == [1]
    assert by_name["blk.0.attn_v.weight"] == {
        "name": "blk.0.attn_v.weight",
        "status": "misfit",
        "expected": 4,
        "found": 8,
        "experts": 1,
        "unseen_experts": [],
        "entry": None,
    }


def test_layers_for_next_token_prediction_are_named(importance: Importance) -> None:
    predicting = [tensor("blk.1.nextn.eh_proj.weight", 4, 8), tensor("blk.1.attn_q.weight", 8, 4)]
    found = coverage([*QUANTIZABLE, *predicting], importance, model=OTHERS)
    assert found.nextn == (1,)
    assert plain(found)["nextn_layers"] == [1]
    assert coverage(QUANTIZABLE, importance, model=OTHERS).nextn == ()


class TestMatrixOfAnotherModel:
    @pytest.mark.parametrize(("cols", "prefix"), [(512, "blk"), (256, "v.blk")], ids=["sizes", "names"])
    def test_is_an_error(self, cols: int, prefix: str) -> None:
        model = [tensor(f"{prefix}.{i}.ffn_up.weight", 8, cols) for i in range(4)]
        with pytest.raises(
            ImportanceError, match=r"imatrix\.code\.gguf: .* of another model: 0 of its 28 entries"
        ):
            coverage(model, read_importance(DATA / "imatrix.code.gguf"), model=model)

    def test_names_an_example(self) -> None:
        model = [tensor(f"blk.{i}.ffn_up.weight", 8, 512) for i in range(4)]
        with pytest.raises(ImportanceError, match=r"has 256 values \(expected: 512\)"):
            coverage(model, read_importance(DATA / "imatrix.code.gguf"), model=model)
