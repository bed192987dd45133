"""Parts of an importance matrix: entries by name, and layers that were given other numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.imatrix_files import write_gguf_imatrix

from quantrecipe.importance.matrix import Importance
from quantrecipe.importance.read_importance import read_importance
from quantrecipe.tensor import TensorInfo

DATA = Path(__file__).parent.parent / "data" / "imatrix"


@pytest.fixture(scope="module")
def code() -> Importance:
    return read_importance(DATA / "imatrix.code.gguf")


class TestOnly:
    def test_excludes_every_name_that_contains_the_text(self, code: Importance) -> None:
        kept = code.only(exclude=["ffn_down", "blk.1."])
        assert len(kept.entries) == 28 - 4 - 6
        assert not any("ffn_down" in name or "blk.1." in name for name in kept.entries)

    def test_includes_only_those(self, code: Importance) -> None:
        assert list(code.only(include=["attn_q", "3.attn_v"]).entries) == [
            "blk.0.attn_q.weight",
            "blk.1.attn_q.weight",
            "blk.2.attn_q.weight",
            "blk.3.attn_q.weight",
            "blk.3.attn_v.weight",
        ]

    def test_both_at_once(self, code: Importance) -> None:
        assert list(code.only(["attn_q"], ["blk.0", "blk.1"]).entries) == [
            "blk.2.attn_q.weight",
            "blk.3.attn_q.weight",
        ]

    def test_has_another_digest_unless_all_are_kept(self, code: Importance) -> None:
        assert code.only(exclude=["no such name"]).digest == code.digest
        assert code.only(exclude=["attn_q"]).digest != code.digest

    def test_texts_are_no_patterns(self, code: Importance) -> None:
        assert code.only(include=["blk.*"]).entries == {}


class TestRenumbered:
    def test_importance_follows_its_layer(self, code: Importance) -> None:
        pruned = code.renumbered({0: 0, 2: 1, 3: 2})
        assert len(pruned.entries) == 21
        info = TensorInfo.from_name("blk.1.ffn_down.weight", (256, 768), "BF16")
        found = pruned.for_tensor(info)
        assert found is not None
        np.testing.assert_array_equal(found, code.entries["blk.2.ffn_down.weight"].values)
        assert pruned.entries[info.name].name == info.name
        assert pruned.digest != code.digest

    def test_the_same_numbers_are_the_same_matrix(self, code: Importance) -> None:
        assert code.renumbered({number: number for number in range(4)}).digest == code.digest

    def test_what_lies_outside_the_layers_stays(self, tmp_path: Path) -> None:
        row = np.ones((1, 4), np.float32)
        entries = {"output.weight": (row, [1]), "blk.10.attn_q.weight": (row, [1])}
        matrix = read_importance(write_gguf_imatrix(tmp_path / "m.gguf", entries))
        assert set(matrix.renumbered({10: 1}).entries) == {"output.weight", "blk.1.attn_q.weight"}

    def test_two_layers_can_not_become_one(self, code: Importance) -> None:
        with pytest.raises(ValueError, match="same number"):
            code.renumbered({0: 0, 1: 0})
