from __future__ import annotations

import math
from typing import Any

import pytest

from quantrecipe.typed import Finite, Natural, NotNegative, Positive, Record, json_object, typed


class Entry(Record):
    dtype: str
    shape: tuple[Natural, ...]
    bits: dict[str, tuple[NotNegative, Positive]] = {}  # noqa: RUF012  # msgspec copies it
    kld: Finite = 0.0


GOOD: dict[str, Any] = {"dtype": "F32", "shape": [2, 3], "bits": {"Q4_K": [0.5, 1]}, "kld": -1}


def test_lists_become_tuples_and_whole_numbers_numbers() -> None:
    found = typed(GOOD, Entry)
    assert (found.shape, found.bits, found.kld) == ((2, 3), {"Q4_K": (0.5, 1)}, -1.0)
    assert typed({"dtype": "F32", "shape": []}, Entry).bits == {}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"shape": [2, -3]}, "shape[1]: expected `int` >= 0"),
        ({"shape": [2, True]}, "shape[1]: expected `int`, got `bool`"),
        ({"shape": [2.0]}, "shape[0]: expected `int`, got `float`"),
        ({"shape": [2**63]}, "shape[0]: expected `int` <= 9223372036854775807"),
        ({"shape": [2**64]}, "shape[0]: "),
        ({"shape": "2"}, "shape: expected `array`, got `str`"),
        ({"dtype": None}, "dtype: expected `str`, got `null`"),
        ({"bits": {"Q4_K": [0.5]}}, "bits[...]: expected `array` of length 2"),
        ({"bits": {"Q4_K": [0.5, 0]}}, "bits[...][1]: expected `int` >= 1"),
        ({"bits": {"Q4_K": [-0.5, 1]}}, "bits[...][0]: expected `float` >= 0"),
        ({"bits": {"Q4_K": [math.inf, 1]}}, "bits[...][0]: expected `float` <= 1.79"),
        ({"kld": math.nan}, "kld: expected `float`"),
        ({"kld": -math.inf}, "kld: expected `float`"),
        ({"kld": 10**400}, "kld: "),
        ({"more": 1}, "Object contains unknown field `more`"),
        ({"x" * 10_000: 1}, "Object contains unknown field"),
    ],
)
def test_what_is_wrong_and_where(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError) as error:  # the text is compared below
        typed(GOOD | change, Entry)
    assert str(error.value).startswith(said)
    assert len(str(error.value)) <= 200


def test_what_is_missing() -> None:
    with pytest.raises(ValueError, match="missing required field `shape`"):
        typed({"dtype": "F32"}, Entry)


def test_json() -> None:
    assert json_object(b'{"a": [1, 2.5, null]}') == {"a": [1, 2.5, None]}
    assert json_object('{"a": {}}') == {"a": {}}
    assert json_object(b'{"a": "\\ud83d\\ude00"}') == {"a": "\U0001f600"}


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"[1]", "is not a JSON object"),
        (b"{", "is not valid JSON"),
        (b"\xff", "is not valid JSON"),
        (b'{"a": 1, "a": 2}', "the name 'a' is there twice"),
        (b'{"a": {"b": 1, "b": 2}}', "the name 'b' is there twice"),
        (b'{"a": NaN}', "NaN is not a JSON number"),
        (b'{"a": -Infinity}', "-Infinity is not a JSON number"),
        (b'{"\\ud800": 1}', "is not valid JSON: half a surrogate pair"),
        (b'{"a": ["\\udc00x"]}', "is not valid JSON: half a surrogate pair"),
        (b'{"a": ' + b"1" * 10_000 + b"}", "is not valid JSON"),
        (b'{"a":' * 100_000, "is nested too deeply"),
    ],
)
def test_what_json_is_refused(raw: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        json_object(raw)
