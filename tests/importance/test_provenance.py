"""Where a matrix comes from: written into its GGUF, read back, and joined when matrices are added up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path

import gguf
import numpy as np
import pytest
from support.imatrix_files import with_provenance, write_gguf

from quantrecipe.errors import ImportanceError
from quantrecipe.gguf.header import read_header
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.importance import provenance as provenance_module
from quantrecipe.importance.compare import compare
from quantrecipe.importance.matrix import Importance
from quantrecipe.importance.measurement import measured
from quantrecipe.importance.merge import merged
from quantrecipe.importance.provenance import KEYS, PREFIX, CalibrationText, Provenance, joined
from quantrecipe.importance.read_importance import read_importance
from quantrecipe.importance.to_dat import encode_dat

DATA = Path(__file__).parent.parent / "data" / "imatrix"
CODE, PROSE = DATA / "imatrix.code.gguf", DATA / "imatrix.prose.gguf"
ONE, OTHER = (f"v1:{digit * 16}:{digit * 32}" for digit in "12")

MADE = Provenance(
    texts=(
        CalibrationText(name="code", digest="a" * 32, tokens=4096, weight=2.0),
        CalibrationText(name="Prosa – ü", digest="b" * 32, tokens=1000, weight=0.5),
    ),
    template="c" * 32,
    contexts=(512, 4096),
    fingerprint=ONE,
    model="d" * 32,
    version="0.1.0",
    engine="llama.cpp b7000, CPU",
    seed=2**63 - 1,
    skip=0,
    chunks=100,
    all_experts=False,
)


def matrix(source: Path, provenance: Provenance | None, path: Path) -> Importance:
    """The matrix in `source`, written with this provenance and read again."""
    return read_importance(with_provenance(source, provenance, path))


class TestFile:
    def test_holds_all_of_it(self, tmp_path: Path) -> None:
        empty = Provenance()
        assert all(getattr(MADE, it.name) != getattr(empty, it.name) for it in fields(Provenance))
        assert matrix(CODE, MADE, tmp_path / "m.gguf").provenance == MADE

    def test_has_each_key_in_the_documented_order_and_type(self, tmp_path: Path) -> None:
        matrix(CODE, MADE, tmp_path / "m.gguf")
        found = {k: v for k, v in read_header(tmp_path / "m.gguf").metadata.items() if k.startswith(PREFIX)}
        assert list(found) == [PREFIX + key for key in KEYS]
        for key, (type_, is_array) in KEYS.items():
            value = found[PREFIX + key]
            assert (value.item_type if is_array else value.type) is type_
            assert f"    {PREFIX}{key} " in (provenance_module.__doc__ or "")

    def test_keys_stand_behind_llama_imatrix_s(self, tmp_path: Path) -> None:
        matrix(CODE, MADE, tmp_path / "m.gguf")
        ours, theirs = read_header(tmp_path / "m.gguf"), read_header(CODE)
        assert list(ours.metadata)[: len(theirs.metadata)] == list(theirs.metadata)
        assert [t.name for t in ours.tensors] == [t.name for t in theirs.tensors]

    def test_is_read_by_gguf_s_own_reader(self, tmp_path: Path) -> None:
        matrix(CODE, MADE, tmp_path / "m.gguf")
        found = gguf.GGUFReader(tmp_path / "m.gguf")
        assert found.fields[f"{PREFIX}text.tokens"].contents() == [4096, 1000]
        assert found.fields[f"{PREFIX}all_experts"].contents() is False
        assert found.fields["imatrix.chunk_size"].contents() == 512

    def test_says_nothing_of_what_is_not_known(self, tmp_path: Path) -> None:
        found = matrix(CODE, Provenance(fingerprint=ONE), tmp_path / "m.gguf")
        assert found.provenance == Provenance(fingerprint=ONE)
        assert found.fingerprint == ONE
        keys = [key for key in read_header(tmp_path / "m.gguf").metadata if key.startswith(PREFIX)]
        assert keys == [f"{PREFIX}model.fingerprint"]

    def test_false_and_nought_are_known(self, tmp_path: Path) -> None:
        made = Provenance(all_experts=False, skip=0, seed=0)
        assert matrix(CODE, made, tmp_path / "m.gguf").provenance == made

    def test_without_any_is_llama_imatrix_s_own(self, tmp_path: Path) -> None:
        found = matrix(CODE, None, tmp_path / "m.gguf")
        assert (tmp_path / "m.gguf").read_bytes() == CODE.read_bytes()
        assert (found.provenance, found.fingerprint) == (None, "")
        assert read_importance(DATA / "imatrix.code.dat").provenance is None

    def test_importance_is_the_same(self, tmp_path: Path) -> None:
        """Outputs record its digest, and copy tensors by it."""
        assert matrix(CODE, MADE, tmp_path / "m.gguf").digest == read_importance(CODE).digest

    def test_parts_of_a_matrix_keep_it(self, tmp_path: Path) -> None:
        found = matrix(CODE, MADE, tmp_path / "m.gguf")
        assert found.only(["attn"]).provenance == MADE
        assert found.renumbered({0: 0, 2: 1}).provenance == MADE

    def test_a_dat_file_has_no_place_for_it(self) -> None:
        measurement = replace(measured(read_importance(CODE)), provenance=MADE)
        assert any("where it comes from" in what for what in encode_dat(measurement).lost)
        assert not any(
            "where it comes from" in what for what in encode_dat(replace(measurement, provenance=None)).lost
        )


def damaged(path: Path, pairs: Mapping[str, GGUFValue]) -> Path:
    tensors = {
        "a.weight.in_sum2": np.ones((1, 4), np.float32),
        "a.weight.counts": np.ones((1, 1), np.float32),
    }
    return write_gguf(path, tensors, {PREFIX + key: value for key, value in pairs.items()})


class TestHostileFile:
    @pytest.mark.parametrize(
        ("key", "value", "said"),
        [
            ("seed", GGUFValue.of(ValueType.STRING, "7"), "seed: expected"),
            ("seed", GGUFValue.of(ValueType.INT64, -7), "seed: expected `int` >= 0"),
            ("seed", GGUFValue.of(ValueType.UINT64, 2**64 - 1), "seed: "),
            ("all_experts", GGUFValue.of(ValueType.UINT8, 1), "all_experts: expected"),
            ("model.fingerprint", GGUFValue.of(ValueType.UINT32, 1), "model_fingerprint: expected `str`"),
            ("contexts", GGUFValue.of(ValueType.UINT32, 512), "contexts: expected `array`"),
            ("contexts", GGUFValue.array(ValueType.STRING, ["x"]), r"contexts\[0\]: expected `int`"),
            ("text.weights", GGUFValue.array(ValueType.FLOAT64, [float("nan")]), r"text_weights\[0\]"),
            (
                "text.names",
                GGUFValue.array(ValueType.STRING, ["code"]),
                "text: 1 names, 0 digests, 0 numbers",
            ),
        ],
    )
    def test_is_an_error_with_the_file_s_name(
        self, key: str, value: GGUFValue, said: str, tmp_path: Path
    ) -> None:
        path = damaged(tmp_path / "m.gguf", {key: value})
        with pytest.raises(ImportanceError, match=rf"m\.gguf: has a damaged provenance .*{said}"):
            read_importance(path)

    def test_keys_of_later_versions_are_left_alone(self, tmp_path: Path) -> None:
        path = damaged(
            tmp_path / "m.gguf",
            {"mood": GGUFValue.of(ValueType.STRING, "good"), "seed": GGUFValue.of(ValueType.UINT64, 7)},
        )
        assert read_importance(path).provenance == Provenance(seed=7)


class TestJoined:
    def test_equal_facts_stay_and_texts_are_added_up(self) -> None:
        found = joined([(MADE, 1, ()), (MADE, 1, ())])
        assert found is not None
        assert found == replace(MADE, texts=found.texts)
        assert [(text.name, text.tokens, text.weight) for text in found.texts] == [
            ("code", 8192, 2.0),
            ("Prosa – ü", 2000, 0.5),
        ]

    def test_what_differs_is_left_out(self) -> None:
        other = Provenance(
            template="0", contexts=(256, 512), fingerprint=OTHER, model="0", version="9", engine="other", seed=1,
            skip=1, chunks=1, all_experts=True,
        )  # fmt: skip
        assert joined([(replace(MADE, texts=()), 1, ()), (other, 1, ())]) == Provenance(
            contexts=(256, 512, 4096)
        )

    def test_weights_are_multiplied_by_how_many_times_a_file_counts(self) -> None:
        found = joined([(MADE, 3, ()), (replace(MADE, texts=MADE.texts[:1]), 1, ())])
        assert found is not None
        assert [(text.name, text.weight) for text in found.texts] == [
            ("code", 6.0),
            ("Prosa – ü", 1.5),
            ("code", 2.0),
        ]

    def test_of_a_file_without_one_the_texts_names_are_known(self) -> None:
        found = joined([(MADE, 1, ("ignored",)), (None, 2, ("wiki.txt",))])
        assert found == Provenance(
            texts=(*MADE.texts, CalibrationText(name="wiki.txt", weight=2.0)), contexts=MADE.contexts
        )

    def test_of_files_without_any_there_is_none(self) -> None:
        assert joined([(None, 1, ("wiki.txt",)), (None, 1, ())]) is None


class TestMerge:
    def test_of_one_model_states_it(self, tmp_path: Path) -> None:
        a = matrix(CODE, MADE, tmp_path / "a.gguf")
        b = matrix(PROSE, replace(MADE, texts=MADE.texts[1:], seed=1), tmp_path / "b.gguf")
        found = merged([a, b], weights=[2, 1]).provenance
        assert found is not None
        assert (found.fingerprint, found.seed) == (ONE, None)
        assert [(text.name, text.weight) for text in found.texts] == [
            ("code", 4.0),
            ("Prosa – ü", 1.0),
            ("Prosa – ü", 0.5),
        ]

    def test_of_two_models_is_refused_with_both_files_names(self, tmp_path: Path) -> None:
        a = matrix(CODE, MADE, tmp_path / "a.gguf")
        b = matrix(PROSE, replace(MADE, fingerprint=OTHER), tmp_path / "b.gguf")
        with pytest.raises(ImportanceError, match=r"b\.gguf: is of another model than .*a\.gguf: v1:2.*v1:1"):
            merged([read_importance(CODE), a, b])
        insisted = merged([a, b], other_models=True).provenance
        assert insisted is not None
        assert insisted.fingerprint == ""

    def test_with_llama_imatrix_s_states_no_model(self, tmp_path: Path) -> None:
        found = merged([matrix(CODE, MADE, tmp_path / "a.gguf"), read_importance(PROSE)]).provenance
        assert found is not None
        assert found.fingerprint == ""
        assert [text.name for text in found.texts] == ["code", "Prosa – ü", "prose.calib.txt"]

    def test_of_llama_imatrix_s_has_none(self) -> None:
        assert merged([read_importance(CODE), read_importance(PROSE)]).provenance is None


def test_a_comparison_says_whether_models_differ(tmp_path: Path) -> None:
    a = matrix(CODE, MADE, tmp_path / "a.gguf")
    b = matrix(PROSE, replace(MADE, fingerprint=OTHER), tmp_path / "b.gguf")
    silent = read_importance(PROSE)
    assert compare(a, b).models_differ
    assert not compare(a, a).models_differ
    assert not compare(a, silent).models_differ
    document = compare(a, silent).to_json()
    assert (document["first_model"], document["second_model"]) == (ONE, None)
