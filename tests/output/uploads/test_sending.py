"""How a file is cut into blocks; and what is said of what stores raise. What sending does is in test_upload.py."""

from __future__ import annotations

import pytest

from quantrecipe.errors import ModelError, NonFiniteError, OutputError
from quantrecipe.model.objects import ObjectAddress
from quantrecipe.output.uploads import sending
from quantrecipe.output.uploads.sending import writing

MIB = 1 << 20
ADDRESS = ObjectAddress.parse("s3://bucket/out.gguf")


def test_blocks_of_the_largest_files_are_few_enough() -> None:
    assert sending.block_bytes(100) == sending.SMALLEST
    for nbytes in (7 * MIB, 600 * 10**9, 5 * 10**12):
        block = sending.block_bytes(nbytes)
        assert block % MIB == 0
        assert block >= 8 * MIB
        assert -(-nbytes // block) <= 10_000


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError("no"), "s3://bucket/out.gguf can't be written: PermissionError: no; check the keys"),
        (FileNotFoundError("bucket"), "make the bucket or the folder, or name another"),
        (NotImplementedError(), "write to a folder, and bring the file there by other means"),
        (TimeoutError("late"), "TimeoutError: late; check the connection, and run the same command again"),
        (
            ModelError("s3:// is read with fsspec", "pip install it"),
            "s3:// is read with fsspec; pip install it",
        ),
        (OutputError("the disk is gone", "look at it"), "the disk is gone; look at it"),
    ],
    ids=repr,
)
def test_what_goes_wrong_says_what_to_do(error: Exception, said: str) -> None:
    with pytest.raises(OutputError, match=said), writing(ADDRESS):
        raise error


def test_errors_of_the_content_stay_what_they_are() -> None:
    with pytest.raises(NonFiniteError), writing(ADDRESS):
        raise NonFiniteError("nan at row 1")
