"""Both file layouts, as llama-quantize reads them; and files that are something else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.examples import examples
from support.imatrix_files import dat_bytes, write_gguf, write_gguf_imatrix

from quantrecipe.errors import ImportanceError
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.importance.read_importance import read_importance

DATA = Path(__file__).parent.parent / "data" / "imatrix"
NAME = "blk.0.ffn_up.weight"


class TestRealFiles:
    def test_both_layouts_say_the_same(self) -> None:
        new, old = read_importance(DATA / "imatrix.code.gguf"), read_importance(DATA / "imatrix.code.dat")
        assert (new.layout, old.layout) == ("gguf", "dat")
        assert new.entries.keys() == old.entries.keys()
        assert len(new.entries) == 28
        for name in new.entries:
            np.testing.assert_allclose(new.entries[name].values, old.entries[name].values, rtol=1e-6)

    def test_what_they_say_of_themselves(self) -> None:
        new, old = read_importance(DATA / "imatrix.code.gguf"), read_importance(DATA / "imatrix.code.dat")
        assert (new.datasets, new.chunks, new.chunk_size) == (("code.calib.txt",), 190, 512)
        assert (old.datasets, old.chunks, old.chunk_size) == (("code.calib.txt",), 190, 0)
        assert new.label == "imatrix.code.gguf"

    def test_values_are_means_of_squares(self) -> None:
        entry = read_importance(DATA / "imatrix.code.gguf").entries["blk.0.attn_k.weight"]
        assert entry.counts == (97280,)  # 190 chunks of 512 tokens
        assert entry.values.shape == (1, 256)
        assert entry.values.dtype == np.float32
        # As llama-imatrix --show-statistics has it, and as the first sum in the file says.
        assert entry.values[0, 0] == np.float32(103859.766) / np.float32(97280)


class TestGGUF:
    def test_each_expert_has_its_own_count(self, tmp_path: Path) -> None:
        sums = np.arange(12, dtype=np.float32).reshape(3, 4)
        matrix = read_importance(write_gguf_imatrix(tmp_path / "m.gguf", {NAME: (sums, [2, 0, 5])}))
        expected = np.stack([sums[0] / np.float32(2), np.ones(4), sums[2] / np.float32(5)])
        np.testing.assert_array_equal(matrix.entries[NAME].values, expected)
        assert matrix.entries[NAME].counts == (2, 0, 5)

    def test_one_count_holds_for_all(self, tmp_path: Path) -> None:
        sums = np.arange(12, dtype=np.float32).reshape(1, 12)
        matrix = read_importance(write_gguf_imatrix(tmp_path / "m.gguf", {NAME: (sums, [4])}))
        np.testing.assert_array_equal(matrix.entries[NAME].values, sums / np.float32(4))

    def test_tensors_of_later_versions_are_left_alone(self, tmp_path: Path) -> None:
        ones = np.ones((1, 8), np.float32)
        path = write_gguf(
            tmp_path / "m.gguf",
            {f"{NAME}.in_sum2": ones, f"{NAME}.counts": ones[:, :1], f"{NAME}.in_max": ones},
        )
        assert list(read_importance(path).entries) == [NAME]

    def test_metadata_may_be_missing(self, tmp_path: Path) -> None:
        ones = np.ones((1, 8), np.float32)
        path = write_gguf(tmp_path / "m.gguf", {f"{NAME}.in_sum2": ones, f"{NAME}.counts": ones[:, :1]})
        matrix = read_importance(path)
        assert (matrix.datasets, matrix.chunks, matrix.chunk_size) == ((), 0, 0)

    def test_a_model_is_not_one(self, tmp_path: Path) -> None:
        path = write_gguf(
            tmp_path / "model.gguf",
            {"output.weight": np.ones((2, 8), np.float32)},
            {"general.architecture": GGUFValue.of(ValueType.STRING, "llama")},
        )
        with pytest.raises(
            ImportanceError, match=r"model\.gguf: is a model, not an importance matrix .*llama-imatrix"
        ):
            read_importance(path)

    @pytest.mark.parametrize(
        ("tensors", "said"),
        [
            ({f"{NAME}.in_sum2": np.ones((1, 8), np.float32)}, rf"no {NAME}\.counts"),
            ({f"{NAME}.counts": np.ones((1, 1), np.float32)}, rf"no {NAME}\.in_sum2"),
            (
                {
                    f"{NAME}.in_sum2": np.ones((1, 8), np.float16),
                    f"{NAME}.counts": np.ones((1, 1), np.float32),
                },
                "is not F32",
            ),
            (
                {
                    f"{NAME}.in_sum2": np.ones((1, 8), np.float32),
                    f"{NAME}.counts": np.ones((3, 1), np.float32),
                },
                "don't divide",
            ),
            (
                {
                    f"{NAME}.in_sum2": np.ones((1, 8), np.float32),
                    f"{NAME}.counts": np.full((1, 1), -1, np.float32),
                },
                "counts that are negative",
            ),
            (
                {
                    f"{NAME}.in_sum2": np.ones((1, 8), np.float32),
                    f"{NAME}.counts": np.full((1, 1), np.nan, "f4"),
                },
                "counts that are negative or no numbers",
            ),
        ],
    )
    def test_what_is_inconsistent(
        self, tmp_path: Path, tensors: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]], said: str
    ) -> None:
        with pytest.raises(ImportanceError, match=said):
            read_importance(write_gguf(tmp_path / "m.gguf", tensors))

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -1.0])
    def test_values_that_no_calibration_gives(self, tmp_path: Path, bad: float) -> None:
        sums = np.ones((1, 8), np.float32)
        sums[0, 5] = bad
        with pytest.raises(ImportanceError, match=rf"{NAME} has the value .* at position 5"):
            read_importance(write_gguf_imatrix(tmp_path / "m.gguf", {NAME: (sums, [1])}))

    def test_many_problems_are_cut_short(self, tmp_path: Path) -> None:
        sums = np.full((1, 8), np.nan, np.float32)
        path = write_gguf_imatrix(
            tmp_path / "m.gguf", {f"blk.{i}.ffn_up.weight": (sums, [1]) for i in range(9)}
        )
        with pytest.raises(ImportanceError) as caught:
            read_importance(path)
        assert [problem.what for problem in caught.value.problems[5:]] == ["… and 4 more like these"]


class TestLegacy:
    def test_values_are_divided_by_calls(self, tmp_path: Path) -> None:
        path = tmp_path / "m.dat"
        path.write_bytes(dat_bytes([(NAME, 4, [2, 4, 8])], chunks=4, dataset="text"))
        matrix = read_importance(path)
        np.testing.assert_array_equal(matrix.entries[NAME].values, np.float32([[0.5, 1, 2]]))
        assert (matrix.chunks, matrix.datasets) == (4, ("text",))

    def test_no_calls_means_as_they_are(self, tmp_path: Path) -> None:
        path = tmp_path / "m.dat"
        path.write_bytes(dat_bytes([(NAME, 0, [2, 4, 8])]))
        np.testing.assert_array_equal(read_importance(path).entries[NAME].values, np.float32([[2, 4, 8]]))

    @pytest.mark.parametrize("trailer", [{}, {"chunks": 3}, {"chunks": 3, "dataset": ""}])
    def test_trailer_may_be_missing(self, tmp_path: Path, trailer: dict[str, int]) -> None:
        path = tmp_path / "m.dat"
        path.write_bytes(dat_bytes([(NAME, 1, [1.0])], **trailer))  # type: ignore[arg-type]  # as given
        matrix = read_importance(path)
        assert (matrix.chunks, matrix.datasets) == (trailer.get("chunks", 0), ())

    def test_a_tensor_twice(self, tmp_path: Path) -> None:
        path = tmp_path / "m.dat"
        path.write_bytes(dat_bytes([(NAME, 1, [1.0]), (NAME, 1, [2.0])]))
        with pytest.raises(ImportanceError, match=f"{NAME} is there twice"):
            read_importance(path)

    def test_cut_anywhere_is_an_error_or_just_lacks_the_trailer(self, tmp_path: Path) -> None:
        entries = dat_bytes([(NAME, 1, [1.0, 2.0]), ("output.weight", 1, [1.0])])
        whole = dat_bytes([(NAME, 1, [1.0, 2.0]), ("output.weight", 1, [1.0])], chunks=1, dataset="text")
        path = tmp_path / "m.dat"
        for size in range(len(whole)):
            path.write_bytes(whole[:size])
            if size in (len(entries), len(entries) + 4):
                assert len(read_importance(path).entries) == 2
            else:
                with pytest.raises(ImportanceError):
                    read_importance(path)

    def test_more_after_the_end(self, tmp_path: Path) -> None:
        path = tmp_path / "m.dat"
        path.write_bytes(dat_bytes([(NAME, 1, [1.0])], chunks=1, dataset="text") + b"xxx")
        with pytest.raises(ImportanceError, match="3 bytes after its end"):
            read_importance(path)


class TestOtherFiles:
    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"\0\0\0\0",
            b"\xff\xff\xff\x7f" * 8,
            b'{"weight_map": {}}',
            b"# perplexity\n" * 99,
            b"PK\3\4" + b"\0" * 99,
        ],
    )
    def test_are_no_importance_matrix(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "thing.dat"
        path.write_bytes(content)
        with pytest.raises(ImportanceError, match=r"thing\.dat: is not an importance matrix"):
            read_importance(path)

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(ImportanceError, match=r"none\.gguf: can't be read: No such file"):
            read_importance(tmp_path / "none.gguf")

    def test_a_folder(self, tmp_path: Path) -> None:
        with pytest.raises(ImportanceError, match="can't be read"):
            read_importance(tmp_path)

    def test_damaged_gguf(self, tmp_path: Path) -> None:
        whole = (DATA / "imatrix.code.gguf").read_bytes()
        path = tmp_path / "cut.gguf"
        for size in (10, 100, 3000, len(whole) - 4096):
            path.write_bytes(whole[:size])
            with pytest.raises(ImportanceError, match=r"cut\.gguf"):
                read_importance(path)

    @settings(
        max_examples=examples(200), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(at=st.integers(0, 3000), byte=st.integers(0, 255), which=st.sampled_from(["gguf", "dat"]))
    def test_one_byte_changed_never_crashes(self, tmp_path: Path, at: int, byte: int, which: str) -> None:
        data = bytearray((DATA / f"imatrix.code.{which}").read_bytes())
        data[at] = byte
        path = tmp_path / "changed"
        path.write_bytes(data)
        try:
            matrix = read_importance(path)
        except ImportanceError:
            return
        assert all(np.isfinite(entry.values).all() for entry in matrix.entries.values())


class TestDigest:
    def test_is_of_the_content_alone(self, tmp_path: Path) -> None:
        a, b = np.float32([[1, 2]]), np.float32([[3, 4]])
        one = write_gguf_imatrix(tmp_path / "one.gguf", {"a": (a, [1]), "b": (b, [2])}, datasets=["x"])
        two = write_gguf_imatrix(tmp_path / "two.gguf", {"b": (b, [2]), "a": (a, [1])}, datasets=["y"])
        assert read_importance(one).digest == read_importance(two).digest

    def test_changes_with_values_counts_and_names(self, tmp_path: Path) -> None:
        a = np.float32([[1, 2]])
        variants = [{"a": (a, [1])}, {"a": (a + 1, [1])}, {"a": (a, [2])}, {"b": (a, [1])}]
        digests = {
            read_importance(write_gguf_imatrix(tmp_path / f"{number}.gguf", entries)).digest
            for number, entries in enumerate(variants)
        }
        assert len(digests) == 4
