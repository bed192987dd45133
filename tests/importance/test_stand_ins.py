"""Entries of fused matrices for separate ones, and the other way round: they see the same inputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from support.imatrix_files import dat_bytes, write_gguf_imatrix
from support.models import llama_metadata, llama_tensors, write_gguf

from quantrecipe.importance.coverage import coverage
from quantrecipe.importance.matrix import Importance
from quantrecipe.importance.read_importance import read_importance
from quantrecipe.importance.stand_ins import STAND_INS
from quantrecipe.model.open_model import open_model
from quantrecipe.output.apply import apply_plan
from quantrecipe.plain_data import plain
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe_text
from quantrecipe.registry import load_registry
from quantrecipe.tensor import TensorInfo

Entry = tuple[NDArray[np.float32], list[int]]


def tensor(name: str, *shape: int) -> TensorInfo:
    return TensorInfo.from_name(name, shape, "BF16")


def sums(seed: int, matrices: int = 1, cols: int = 4) -> NDArray[np.float32]:
    return np.random.default_rng(seed).exponential(1.0, (matrices, cols)).astype(np.float32)


def matrix(folder: Path, entries: dict[str, Entry]) -> Importance:
    return read_importance(write_gguf_imatrix(folder / "m.gguf", entries))


EXPERTS = {
    "blk.0.ffn_gate_up_exps.weight": (sums(1, 3), [9, 0, 2]),
    "blk.0.ffn_down_exps.weight": (sums(2, 3, 8), [9, 0, 2]),
}


@pytest.mark.parametrize("role", ["ffn_gate_exps", "ffn_up_exps"])
def test_a_fused_matrix_s_entry_is_that_of_its_parts(role: str, tmp_path: Path) -> None:
    found = matrix(tmp_path, EXPERTS)
    part = tensor(f"blk.0.{role}.weight", 3, 8, 4)
    fused = tensor("blk.0.ffn_gate_up_exps.weight", 3, 16, 4)
    assert found.covers(part)
    assert np.array_equal(found.for_tensor(part), found.for_tensor(fused))
    assert found.fit(part).entry == "blk.0.ffn_gate_up_exps.weight"
    assert (found.fit(part).status, found.fit(part).unseen) == ("unseen experts", (1,))
    assert found.entry(part).digest == found.entry(fused).digest


@pytest.mark.parametrize("part", ["attn_q", "attn_k", "attn_v"])
def test_any_part_s_entry_is_that_of_the_fused_matrix(part: str, tmp_path: Path) -> None:
    found = matrix(tmp_path, {f"blk.0.{part}.weight": (sums(1), [9])})
    fused = tensor("blk.0.attn_qkv.weight", 12, 4)
    assert found.fit(fused).entry == f"blk.0.{part}.weight"
    assert np.array_equal(found.for_tensor(fused), found.for_tensor(tensor(f"blk.0.{part}.weight", 4, 4)))


def test_an_entry_of_its_own_comes_first_even_if_it_does_not_fit(tmp_path: Path) -> None:
    found = matrix(tmp_path, {"blk.0.attn_q.weight": (sums(1), [9]), "blk.0.attn_qkv.weight": (sums(2), [9])})
    assert found.fit(tensor("blk.0.attn_q.weight", 4, 4)).entry == "blk.0.attn_q.weight"
    assert found.fit(tensor("blk.0.attn_q.weight", 4, 8)).status == "misfit"


@pytest.mark.parametrize(
    "name",
    [
        "blk.0.attn_k.weight",  # attn_q isn't fused with it
        "blk.1.attn_qkv.weight",  # another layer
        "attn_qkv.weight",
        "enc.blk.0.attn_qkv.weight",
        "blk.0.attn_qkv.bias",
        "blk.0.attn_kv_b.weight",
    ],
)
def test_what_sees_other_inputs_takes_nothing(name: str, tmp_path: Path) -> None:
    found = matrix(
        tmp_path,
        {
            "blk.0.attn_q.weight": (sums(1), [9]),
            "blk.0.attn_v_b.weight": (sums(1), [9]),
            "attn_q.weight": (sums(1), [9]),
        },
    )
    assert found.fit(tensor(name, 12, 4)).status == "missing"


class TestLatentAttention:
    """A matrix of older files, for a model whose `attn_kv_b` is split: 3 heads, 4 columns."""

    KV_B = "blk.0.attn_kv_b.weight"
    V_B = tensor("blk.0.attn_v_b.weight", 3, 8, 4)

    def test_all_heads_take_the_one_vector(self, tmp_path: Path) -> None:
        found = matrix(tmp_path, {self.KV_B: (sums(1), [9])})
        vector = found.for_tensor(tensor(self.KV_B, 48, 4))
        assert vector is not None
        values = found.for_tensor(self.V_B)
        assert values is not None
        assert values.shape == (3, 4)
        assert (values == vector).all()
        fit = found.fit(self.V_B)
        assert (fit.status, fit.entry) == ("covered", self.KV_B)
        assert coverage([self.V_B], found, model=[self.V_B]).unmatched == ()

    def test_keys_see_queries_and_take_nothing(self, tmp_path: Path) -> None:
        found = matrix(tmp_path, {self.KV_B: (sums(1), [9])})
        assert found.fit(tensor("blk.0.attn_k_b.weight", 3, 8, 4)).status == "missing"

    def test_an_entry_of_its_own_has_a_vector_for_each_head(self, tmp_path: Path) -> None:
        found = matrix(tmp_path, {self.KV_B: (sums(1), [9]), self.V_B.name: (sums(2, 3), [9, 9, 9])})
        assert found.fit(self.V_B).entry == self.V_B.name
        one = matrix(tmp_path, {self.V_B.name: (sums(1), [9])})
        assert one.fit(self.V_B).status == "misfit"

    def test_one_of_other_columns_does_not_stand_in(self, tmp_path: Path) -> None:
        found = matrix(tmp_path, {self.KV_B: (sums(1, 1, 12), [9])})  # as many values as its three heads have
        assert found.fit(self.V_B).status == "missing"

    def test_no_head_was_seen_where_it_was_not(self, tmp_path: Path) -> None:
        found = matrix(tmp_path, {self.KV_B: (sums(1), [0])})
        assert found.fit(self.V_B).unseen == (0, 1, 2)

    def test_a_dat_file_s_is_read_in_the_same_way(self, tmp_path: Path) -> None:
        path = tmp_path / "m.dat"
        path.write_bytes(dat_bytes([(self.KV_B, 2, [1.0, 2, 3, 4])]))
        found = read_importance(path)
        assert np.array_equal(found.for_tensor(self.V_B), [[0.5, 1, 1.5, 2]] * 3)
        assert found.fit(self.V_B).status == "covered"


def test_one_of_another_size_does_not_stand_in(tmp_path: Path) -> None:
    found = matrix(tmp_path, EXPERTS)
    assert not found.covers(tensor("blk.0.ffn_up_exps.weight", 3, 8, 5))
    assert not found.covers(tensor("blk.0.ffn_up_exps.weight", 4, 8, 4))


def test_the_one_that_saw_most_stands_in_and_others_are_named_if_they_differ(tmp_path: Path) -> None:
    fused = tensor("blk.0.attn_qkv.weight", 12, 4)
    same = matrix(tmp_path, {f"blk.0.attn_{r}.weight": (sums(1), [9]) for r in "qkv"})
    assert (same.fit(fused).entry, same.fit(fused).others) == ("blk.0.attn_q.weight", ())
    rounded = {
        "blk.0.attn_q.weight": (sums(1), [9]),
        "blk.0.attn_k.weight": (sums(1) * np.float32(1.00001), [9]),
    }
    assert matrix(tmp_path, rounded).fit(fused).others == ()
    differ = {"blk.0.attn_q.weight": (sums(1), [9]), "blk.0.attn_k.weight": (sums(3), [90])}
    fit = matrix(tmp_path, differ).fit(fused)
    assert (fit.entry, fit.others) == ("blk.0.attn_k.weight", ("blk.0.attn_q.weight",))


def test_what_the_recipe_leaves_out_stands_in_for_nothing(tmp_path: Path) -> None:
    found = matrix(tmp_path, EXPERTS)
    gate = tensor("blk.0.ffn_gate_exps.weight", 3, 8, 4)
    assert not found.only(exclude=["ffn_gate_exps"]).covers(gate)
    assert not found.only(exclude=["gate_up"]).covers(gate)
    assert not found.only(include=["ffn_gate_up"]).covers(gate)
    assert found.only(include=["ffn_"]).covers(gate)


def test_pruned_layers_take_their_entries_with_them(tmp_path: Path) -> None:
    entries = {f"blk.{i}.attn_qkv.weight": (sums(i), [9]) for i in range(3)}
    found = matrix(tmp_path, entries).only(exclude=["blk.0."]).renumbered({0: 0, 2: 1})
    assert found.fit(tensor("blk.1.attn_q.weight", 4, 4)).entry == "blk.1.attn_qkv.weight"
    assert np.array_equal(
        found.for_tensor(tensor("blk.1.attn_q.weight", 4, 4))[0], sums(2)[0] / np.float32(9)
    )
    assert not found.covers(tensor("blk.0.attn_q.weight", 4, 4))
    old = matrix(tmp_path, entries).only(exclude=["blk.1."]).renumbered({0: 0, 2: 1})
    assert old.covers(tensor("blk.1.attn_q.weight", 4, 4))  # it was layer 2 when the recipe left layer 1 out


def test_the_report_says_it_and_the_matrix_is_of_this_model(tmp_path: Path) -> None:
    separate = {f"blk.0.attn_{r}.weight": (sums(1), [9]) for r in "qkv"}
    fused = [tensor("blk.0.attn_qkv.weight", 12, 4)]
    report = coverage(fused, matrix(tmp_path, separate), model=fused)
    assert [item.tensor.name for item in report.standing_in] == ["blk.0.attn_qkv.weight"]
    assert report.unmatched == ()
    assert plain(report)["tensors"][0]["entry"] == "blk.0.attn_q.weight"
    own = [tensor(f"blk.0.attn_{r}.weight", 4, 4) for r in "qkv"]
    assert coverage(own, matrix(tmp_path, separate), model=own).standing_in == ()


def test_a_file_made_with_stand_ins_has_the_bytes_of_one_made_with_the_same_entries(tmp_path: Path) -> None:
    registry = load_registry(plugins=False)
    weights = llama_tensors(layers=1, experts=2)
    source = open_model(
        write_gguf(tmp_path / "source.gguf", weights, llama_metadata(block_count=1)), registry=registry
    )
    made = load_recipe_text("quantrecipe: 1\ndefault: IQ2_XXS\nrules:\n- {tensors: head, type: Q6_K}\n"
                            "- {tensors: token_embd, type: Q6_K}\n", registry=registry)  # fmt: skip
    names = {"attn_output": 1, "ffn_down_exps": 2, "attn_qkv": 1, "ffn_gate_up_exps": 2}
    cols = {"ffn_down_exps": 512}
    fused = {
        f"blk.0.{role}.weight": (sums(7 + len(role), count, cols.get(role, 256)), [9] * count)
        for role, count in names.items()
    }
    apart = {
        f"blk.0.{role}.weight": fused[f"blk.0.{entry}.weight"]
        for role, entry in {
            **{f"attn_{r}": "attn_qkv" for r in "qkv"},
            **{f"ffn_{r}_exps": "ffn_gate_up_exps" for r in ("gate", "up")},
            "attn_output": "attn_output",
            "ffn_down_exps": "ffn_down_exps",
        }.items()
    }
    blobs = []
    for number, entries in enumerate((fused, apart)):
        found = read_importance(write_gguf_imatrix(tmp_path / f"{number}.gguf", entries))
        plan = make_plan(made, source, registry=registry, importance=found, provenance=False)
        out = apply_plan(plan, tmp_path / f"out{number}.gguf", registry=registry).path
        blobs.append(out.read_bytes()[plan.files[0].header :])
        assert all(a.importance for a in plan.assignments if a.type == "IQ2_XXS")
    assert blobs[0] == blobs[1]


def test_parts_and_wholes_stand_in_for_each_other() -> None:
    for role, others in STAND_INS.items():
        for other in others:
            assert role in STAND_INS.get(other, ()) or (role, other) in (
                ("ffn_gate", "ffn_up"),
                ("attn_v_b", "attn_kv_b"),
            )
