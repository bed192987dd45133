"""GGUFValue: made from Python values, decoded to the same, and strict about what fits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantrecipe.errors import ModelError
from quantrecipe.gguf.values import GGUFValue, ValueType, metadata_text


@given(st.text())
def test_text_comes_back(text):
    value = GGUFValue.of(ValueType.STRING, text)
    assert value.decode() == text
    assert len(value) == len(text.encode())


@given(st.lists(st.integers(-(2**31), 2**31 - 1)))
def test_an_array_of_numbers_comes_back(numbers):
    value = GGUFValue.array(ValueType.INT32, numbers)
    assert value.decode() == numbers
    assert (len(value), value.item_type) == (len(numbers), ValueType.INT32)


@given(st.lists(st.text(max_size=5), max_size=9))
def test_an_array_of_strings_comes_back(words):
    assert GGUFValue.array(ValueType.STRING, words).decode() == words


@pytest.mark.parametrize(
    ("type_", "number"), [(ValueType.UINT8, 256), (ValueType.UINT32, -1), (ValueType.INT64, 2**63)]
)
def test_a_number_that_does_not_fit_is_an_error(type_, number):
    with pytest.raises(ModelError, match=f"doesn't fit the type {type_.name}"):
        GGUFValue.of(type_, number)


@given(st.lists(st.text(max_size=5), max_size=9), st.integers(0, 12))
def test_the_first_items_of_an_array_are_read_alone(words, count):
    assert GGUFValue.array(ValueType.STRING, words).first(count) == words[:count]
    assert GGUFValue.array(ValueType.UINT16, range(9)).first(count) == list(range(9))[:count]
    with pytest.raises(TypeError, match="a STRING has no items"):
        GGUFValue.of(ValueType.STRING, "text").first(count)


def test_bytes_that_are_not_utf_8_decode_with_replacements():
    assert GGUFValue.of(ValueType.STRING, b"a\xffb").decode() == "a\ufffdb"


def test_scalars_have_no_length_and_no_items():
    value = GGUFValue.of(ValueType.UINT32, 7)
    assert value.item_type is None
    with pytest.raises(TypeError, match="a UINT32 has no length"):
        len(value)


def test_an_array_of_arrays_can_not_be_made():
    with pytest.raises(ModelError, match="but not made"):
        GGUFValue.array(ValueType.ARRAY, [[1]])


def test_other_items_keep_the_type():
    numbers = GGUFValue.array(ValueType.INT16, [1, 2])
    assert numbers.with_items([3]) == GGUFValue.array(ValueType.INT16, [3])
    with pytest.raises(TypeError, match="a UINT32 has no items"):
        GGUFValue.of(ValueType.UINT32, 1).with_items([1])


def test_texts_of_metadata():
    metadata = {"a": GGUFValue.of(ValueType.STRING, "x"), "b": GGUFValue.of(ValueType.UINT32, 1)}
    assert [metadata_text(metadata, key) for key in "abc"] == ["x", "", ""]


CODES = {
    "UINT8": "u1", "INT8": "i1", "UINT16": "<u2", "INT16": "<i2", "UINT32": "<u4", "INT32": "<i4",
    "FLOAT32": "<f4", "BOOL": "?", "UINT64": "<u8", "INT64": "<i8", "FLOAT64": "<f8",
}  # fmt: skip


@pytest.mark.parametrize("name", CODES)
@given(st.lists(st.integers(-(2**64), 2**64) | st.floats() | st.booleans(), max_size=4), st.booleans())
def test_numbers_are_those_of_numpy(name, numbers, alike):
    if alike and numbers:
        numbers = [type(numbers[0])(0), *(it for it in numbers if type(it) is type(numbers[0]))]
    with np.errstate(all="ignore"):
        try:
            expected = np.asarray(numbers, CODES[name]).tobytes()
        except (OverflowError, ValueError, TypeError):
            with pytest.raises(ModelError, match="doesn't fit"):
                GGUFValue.array(ValueType[name], numbers)
            return
        value = GGUFValue.array(ValueType[name], numbers)
    assert value.payload[12:] == expected
    assert repr(value.decode()) == repr(np.frombuffer(expected, CODES[name]).tolist())
    assert [repr(it) for it in value.first(2)] == [repr(it) for it in value.decode()[:2]]


@pytest.mark.parametrize("name", CODES)
@given(st.data())
def test_any_bytes_decode_as_with_numpy(name, data):
    width = np.dtype(CODES[name]).itemsize
    raw = data.draw(st.binary(min_size=width, max_size=width))
    expected = np.frombuffer(raw, CODES[name])[0].item()
    assert repr(GGUFValue(ValueType[name], raw).decode()) == repr(expected)
