"""Types that only pass through have sizes, and refuse to encode or decode."""

from __future__ import annotations

import numpy as np
import pytest
from support.formats import format_type

from quantrecipe.errors import FormatError

F64 = format_type("F64")
I8 = format_type("I8")
I16 = format_type("I16")
I32 = format_type("I32")
I64 = format_type("I64")


@pytest.mark.parametrize(("fmt", "nbytes"), [(I8(), 1), (I16(), 2), (I32(), 4), (I64(), 8), (F64(), 8)])
def test_has_a_size_but_no_codec(fmt: F64 | I8 | I16 | I32 | I64, nbytes: int) -> None:
    assert fmt.spec.tensor_bytes((3, 5)) == 15 * nbytes
    assert not fmt.spec.codec
    with pytest.raises(FormatError, match="passes through"):
        fmt.encode(np.zeros((1, 4), np.float32))
    with pytest.raises(FormatError, match="keep"):
        fmt.decode(np.zeros((1, 4 * nbytes), np.uint8), 4)
