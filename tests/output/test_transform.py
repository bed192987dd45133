"""Rows on their way into bytes: what is refused, where it is said to be, and what becomes of it if allowed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from quantrecipe.api import FormatSpec, QuantFormat, StoredFloat
from quantrecipe.core.finite import Unsound
from quantrecipe.errors import NonFiniteError
from quantrecipe.output.row_units import Unit
from quantrecipe.output.transform import Rows, number_text, to_floats, value_text
from quantrecipe.registry import Registry, load_registry
from quantrecipe.tensor import TensorInfo

COLS = 64


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


def unit_of(shape: tuple[int, ...], start: int, stop: int, dtype: str = "F32") -> Unit:
    tensor = TensorInfo.from_name("blk.0.ffn_up_exps.weight", shape, dtype)
    return Unit(tensor=tensor, expert=start // tensor.rows, start=start, stop=stop)


def rows(
    values: NDArray[Any],
    registry: Registry,
    *,
    dtype: str = "F32",
    nan: Any = "error",
    unit: Unit | None = None,
) -> Rows:
    """Values as they are stored: float32, float64, or bytes of `dtype`."""
    raw = values.view(np.uint8).reshape(len(values), -1)
    cols = values.shape[1] if dtype in ("F32", "F64") else COLS
    at = unit or unit_of((len(values), cols), 0, len(values), dtype)
    floats = np.full(at.rows * at.tensor.cols + 7, 5, np.float32)
    return Rows(at, raw, registry.format(dtype), floats, nan=nan)


def ordinary(count: int = 4, cols: int = COLS) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((count, cols)).astype(np.float32)


def encode(of: Rows, name: str, registry: Registry, *, cols: int = COLS, count: int = 4, **how: Any) -> Any:
    fmt = registry.format(name)
    out = np.zeros((count, fmt.spec.row_bytes(cols)), np.uint8)
    return out, of.encode(fmt, how.pop("importance", None), out, **how)


class TestFloats:
    def test_doubles_are_rounded_to_float32(self, registry: Registry) -> None:
        values = np.array([[1 / 3, -1e-50, 2.5, 1e300, -1e39]])
        out = np.empty((1, 5), np.float32)
        to_floats(values.view(np.uint8), registry.format("F64"), out)
        assert out.tolist() == [[np.float32(1 / 3), -0.0, 2.5, np.inf, -np.inf]]

    def test_quantized_sources_are_decoded(self, registry: Registry) -> None:
        q8 = registry.format("Q8_0")
        data = q8.encode(ordinary())
        out = np.empty((4, COLS), np.float32)
        to_floats(data, q8, out)
        assert np.array_equal(out, q8.decode(data, COLS))


class TestWhatIsNotFinite:
    @pytest.mark.parametrize(
        ("shape", "start", "said"),
        [
            ((100, COLS), 50, "nan at row 52, column 7"),
            ((3, 100, COLS), 250, "nan at expert 2, row 52, column 7"),
            ((3, 100, COLS), 0, "nan at expert 0, row 2, column 7"),
            ((1, 100, COLS), 0, "nan at row 2, column 7"),
        ],
    )
    @pytest.mark.parametrize("name", ["Q8_0", "BF16", "F32"])
    def test_its_place_counts_from_the_start_of_its_matrix(
        self, shape: tuple[int, ...], start: int, said: str, name: str, registry: Registry
    ) -> None:
        values = ordinary()
        values[2, 7] = values[3, 1] = np.nan
        of = rows(values, registry, unit=unit_of(shape, start, start + 4))
        with pytest.raises(
            NonFiniteError, match=rf"^blk\.0\.ffn_up_exps\.weight: {said}; the model is damaged"
        ):
            encode(of, name, registry)

    @pytest.mark.parametrize("name", ["Q8_0", "Q4_0"])
    def test_it_is_0_where_a_block_can_t_have_it(self, name: str, registry: Registry) -> None:
        values, zeroed = ordinary(), ordinary()
        for row, col, value in ((0, 3, np.nan), (2, 60, np.inf), (3, 0, -np.inf)):
            values[row, col], zeroed[row, col] = value, 0
        data, lost = encode(rows(values, registry, nan="allow"), name, registry)
        assert lost == 3
        assert data.tobytes() == registry.format(name).encode(zeroed).tobytes()

    @pytest.mark.parametrize(("name", "dtype"), [("F32", np.float32), ("F16", np.float16)])
    def test_it_stays_where_the_type_can_hold_it(self, name: str, dtype: Any, registry: Registry) -> None:
        values = ordinary()
        values[0, 3], values[2, 60], values[3, 0] = np.nan, np.inf, -np.inf
        data, lost = encode(rows(values, registry, nan="allow"), name, registry)
        assert lost == 0
        assert np.array_equal(data.view(dtype), values.astype(dtype), equal_nan=True)

    @pytest.mark.parametrize("bits", [0x7F800001, 0x7FC00000, 0xFF80FFFF])
    def test_a_nan_stays_one_when_its_low_bits_go(self, bits: int, registry: Registry) -> None:
        """BF16 has the high half: a NaN whose bits are all in the other would become infinite."""
        values = ordinary()
        values.view(np.uint32)[1, 5] = bits
        data, lost = encode(rows(values, registry, nan="allow"), "BF16", registry)
        assert lost == 0
        assert np.isnan((data.view(np.uint16)[1, 5].astype(np.uint32) << 16).view(np.float32))

    def test_infinity_in_bf16(self, registry: Registry) -> None:
        values = ordinary()
        values[1, 5], values[1, 6] = np.inf, -np.inf
        data, _ = encode(rows(values, registry, nan="allow"), "BF16", registry)
        assert data.view(np.uint16)[1, 5:7].tolist() == [0x7F80, 0xFF80]

    def test_several_targets_of_the_same_rows(self, registry: Registry) -> None:
        """The first one that can't hold it writes zeros into the rows; the next ones must know what was there."""
        values = ordinary()
        values[1, 5] = np.nan
        of = rows(values, registry, nan="allow")
        assert encode(of, "Q8_0", registry)[1] == 1
        data, lost = encode(of, "F16", registry)
        assert (lost, np.isnan(data.view(np.float16)[1, 5])) == (0, True)
        assert encode(of, "Q4_0", registry)[1] == 1

    def test_the_check_and_the_peak_say_the_same(self, registry: Registry) -> None:
        values = ordinary()
        values[1, 5] = np.inf
        for nan in ("allow", "compare"):
            of = rows(values, registry, nan=nan)
            of.check()
            values_left = np.abs(values[np.isfinite(values)])
            assert of.peak() == values_left.max()
        of = rows(values, registry)
        for ask in (of.check, of.peak):
            with pytest.raises(NonFiniteError, match="inf at row 1, column 5"):
                ask()
        assert rows(-np.abs(ordinary()), registry).peak() == np.abs(ordinary()).max()
        assert rows(np.zeros((4, COLS), np.float32), registry).peak() == 0

    def test_importance_that_is_not_finite_is_no_fault_of_the_weights(self, registry: Registry) -> None:
        importance = np.ones(256, np.float32)
        importance[9] = np.nan
        values = ordinary(cols=256)
        for nan in ("error", "allow"):
            with pytest.raises(NonFiniteError, match=r"^blk\.0\.ffn_up_exps\.weight: .*importance"):
                encode(rows(values, registry, nan=nan), "Q4_K", registry, cols=256, importance=importance)


class TestDoubles:
    def test_beyond_float32(self, registry: Registry) -> None:
        values = ordinary().astype(np.float64)
        values[3, 2] = -1e39
        with pytest.raises(
            NonFiniteError, match=r"-1e\+39 at row 3, column 2 is beyond the range of float32; such a"
        ):
            encode(rows(values, registry, dtype="F64"), "Q8_0", registry)

    def test_nan(self, registry: Registry) -> None:
        values = ordinary().astype(np.float64)
        values[3, 2] = np.nan
        with pytest.raises(NonFiniteError, match="nan at row 3, column 2; the model is damaged"):
            encode(rows(values, registry, dtype="F64"), "Q8_0", registry)


class TestFactors:
    def test_rows_are_divided_by_them(self, registry: Registry) -> None:
        values = ordinary()
        data, _ = encode(rows(values, registry), "Q8_0", registry, factor=np.float32(0.5))
        assert data.tobytes() == registry.format("Q8_0").encode(values * 2).tobytes()

    def test_zeros_in_the_place_of_nan_are_divided_too(self, registry: Registry) -> None:
        values, zeroed = ordinary(), ordinary()
        values[0, 0], zeroed[0, 0] = np.nan, 0
        data, lost = encode(rows(values, registry, nan="allow"), "Q8_0", registry, factor=np.float32(0.25))
        assert lost == 1
        assert data.tobytes() == registry.format("Q8_0").encode(zeroed * 4).tobytes()


class TestCopies:
    def test_nan_among_weights_that_are_copied(self, registry: Registry) -> None:
        values = ordinary()
        rows(values, registry).check_source()
        values[2, 3] = np.nan
        with pytest.raises(NonFiniteError, match="nan at row 2, column 3; the model is damaged"):
            rows(values, registry).check_source()
        rows(values, registry, nan="allow").check_source()

    def test_nan_in_more_rows_than_the_buffer_holds(self, registry: Registry) -> None:
        values, buffer = ordinary(), np.full(3, 5, np.float32)
        values[2, 3] = np.nan
        of = Rows(
            unit_of((4, COLS), 0, 4), values.view(np.uint8), registry.format("F32"), buffer, nan="error"
        )
        with pytest.raises(NonFiniteError, match="nan at row 2, column 3; the model is damaged"):
            of.check_source()
        assert buffer.tolist() == [5] * 3

    @pytest.mark.parametrize(("bits", "said"), [(0x7E00, "NaN"), (0x7C00, "infinite"), (0xFC00, "infinite")])
    def test_a_scale_in_a_block_that_is_copied(self, bits: int, said: str, registry: Registry) -> None:
        data = registry.format("Q8_0").encode(ordinary()).copy()
        data[1, 34:36].view(np.uint16)[0] = bits
        of = rows(data, registry, dtype="Q8_0", unit=unit_of((2, 4, COLS), 4, 8, "Q8_0"))
        with pytest.raises(
            NonFiniteError,
            match=rf"the scale d of expert 1, row 1, block 1 is {said} in the model, so the weights that it is for are",
        ):
            of.check_source()


class TestWhatIsTooLarge:
    @pytest.mark.parametrize(
        ("name", "value", "said"),
        [
            (
                "F16",
                7e4,
                "70000 at row 1, column 40 is too large for F16, which would give Inf back; .* BF16 or F32",
            ),
            ("F16", -7e4, "-70000 at row 1, column 40 is too large for F16"),
            ("BF16", 3.4e38, r"3.4e\+38 at row 1, column 40 is too large for BF16, .*; give this tensor F32"),
            (
                "Q8_0",
                1e10,
                r"1e\+10 at row 1, column 40 is too large for Q8_0: the scale d of row 1, block 1 becomes",
            ),
            (
                "Q4_0",
                -1e10,
                r"-1e\+10 at row 1, column 40 is too large for Q4_0: the scale d of row 1, block 1",
            ),
        ],
    )
    @pytest.mark.parametrize("nan", ["error", "allow"])
    def test_it_is_named(self, name: str, value: float, said: str, nan: str, registry: Registry) -> None:
        """The largest one, also where others are larger than most."""
        values = ordinary()
        values[1, 40], values[1, 33] = value, value / 2
        with pytest.raises(NonFiniteError, match=said):
            encode(rows(values, registry, nan=nan), name, registry)

    def test_what_is_compared_with_a_file_is_not_judged(self, registry: Registry) -> None:
        values = ordinary()
        values[1, 40] = 7e4
        data, _ = encode(rows(values, registry, nan="compare"), "F16", registry)
        assert np.isinf(data.view(np.float16)[1, 40])

    def test_what_fits_passes(self, registry: Registry) -> None:
        values = ordinary()
        values[1, 40] = 65504
        data, _ = encode(rows(values, registry), "F16", registry)
        assert data.view(np.float16)[1, 40] == 65504


@pytest.mark.parametrize(
    ("name", "block", "text"),
    [
        ("d", 3, "the scale d of row 7, block 3"),
        ("dmin", 0, "the scale dmin of row 7, block 0"),
        ("m", 1, "the minimum m of row 7, block 1"),
        ("e", 1, "the scale e of row 7, block 1"),
        ("zeta", None, "the number zeta of row 7"),
    ],
)
def test_numbers_have_ggml_s_names(name: str, block: int | None, text: str) -> None:
    assert number_text(Unsound(row=0, block=block, name=name, kind="f16", value=np.nan), "row 7") == text


@pytest.mark.parametrize(("value", "text"), [(np.nan, "NaN"), (np.inf, "infinite"), (-np.inf, "infinite")])
def test_values_in_words(value: float, text: str) -> None:
    assert value_text(Unsound(row=0, block=0, name="d", kind="f16", value=value)) == text


class Wide(QuantFormat):
    """A plugin's format that scales by a float32: what comes back is twice as large as what went in."""

    spec = FormatSpec(
        name="WIDE", ggml_type=99, block=32, block_bytes=132, floats=(StoredFloat(kind="f32", at=0),)
    )

    def encode(self, rows: Any, importance: Any = None, *, out: Any = None) -> Any:
        blocks = out.reshape(-1, 132).view(np.float32)
        blocks[:, 0] = 1
        blocks[:, 1:] = rows.reshape(-1, 32)
        return out

    def decode(self, data: Any, k: int, *, out: Any = None) -> Any:
        with np.errstate(over="ignore"):
            return (data.reshape(-1, 132).view(np.float32)[:, 1:] * np.float32(2)).reshape(len(data), k)


class Silent(Wide):
    """One that doesn't say what its bytes hold."""

    spec = FormatSpec(name="WIDE", ggml_type=99, block=32, block_bytes=132)


class TestFormatsThatMayOverflowOnTheWayBack:
    """Their scales are finite; whether the products are is seen when large weights are decoded again."""

    @pytest.mark.parametrize("kind", [Wide, Silent])
    @pytest.mark.parametrize("value", [2e38, -2e38])
    def test_they_are_decoded_again(self, kind: type[QuantFormat], value: float, registry: Registry) -> None:
        values = ordinary()
        values[3, 33], values[0, 0] = value, 1e5
        out = np.zeros((4, 2 * 132), np.uint8)
        said = r"2e\+38 at row 3, column 33 is too large for WIDE, which would give Inf back"
        for nan in ("error", "allow"):
            with pytest.raises(NonFiniteError, match=said):
                rows(values, registry, nan=nan).encode(kind(), None, out)
        rows(values, registry, nan="compare").encode(kind(), None, out)

    @pytest.mark.parametrize("kind", [Wide, Silent])
    def test_what_comes_back_finite_passes(self, kind: type[QuantFormat], registry: Registry) -> None:
        values = ordinary()
        values[3, 33] = 1e38
        out = np.zeros((4, 2 * 132), np.uint8)
        assert rows(values, registry).encode(kind(), None, out) == 0
        assert np.array_equal(kind().decode(out, COLS), values * 2)


def test_a_number_that_isn_t_finite_although_the_weights_are_small(registry: Registry) -> None:
    """A format's own fault, or that of an importance which float32 can't compute with."""

    class Broken(Wide):
        def encode(self, rows: Any, importance: Any = None, *, out: Any = None) -> Any:
            super().encode(rows, importance, out=out)
            out.reshape(-1, 132).view(np.float32)[3, 0] = np.inf  # block 1 of row 1
            return out

    values = ordinary()
    values[1, 40] = -9
    out = np.zeros((4, 2 * 132), np.uint8)
    number = r"^blk\.0\.ffn_up_exps\.weight: the scale d of row 1, block 1 becomes infinite in WIDE"
    said = f"{number}, although the largest of"
    with pytest.raises(
        NonFiniteError, match=rf"{said} its weights is -9; give this tensor another type, such as BF16"
    ):
        rows(values, registry).encode(Broken(), None, out)
    importance = np.arange(COLS, dtype=np.float32)
    with pytest.raises(
        NonFiniteError, match=rf"{said} its weights is -9: the importance goes from 32 to 63, which"
    ):
        rows(values, registry).encode(Broken(), importance, out)
