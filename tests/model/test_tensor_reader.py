"""TensorReader: the bytes that were asked for, from files that may change, end early, or be many."""

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from quantrecipe.errors import ModelError
from quantrecipe.model import tensor_reader
from quantrecipe.model.source.source import Extent
from quantrecipe.model.tensor_reader import TensorReader

ROW = 32
CONTENT = np.random.default_rng(0).integers(0, 256, (24, ROW), dtype=np.uint8)


@pytest.fixture(params=[True, False], ids=["positional", "seeking"])
def reader(request):
    with TensorReader(positional=request.param) as reader:
        yield reader


def stored(folder: Path, *rows: int) -> tuple[Extent, ...]:
    """CONTENT in files of so many rows each, behind seven bytes of something else."""
    extents, at = [], 0
    for i, count in enumerate(rows):
        path = folder / f"{i}.bin"
        path.write_bytes(b"header!" + CONTENT[at : at + count].tobytes() + b"trailer")
        at += count
        size = path.stat().st_size
        extents.append(Extent(path=path, offset=7, nbytes=count * ROW, file_size=size))
    return tuple(extents)


@pytest.mark.parametrize("rows", [(24,), (8, 8, 8), (1, 22, 1), (24, 0)])
@pytest.mark.parametrize(("start", "stop"), [(0, 24), (0, 1), (23, 24), (5, 17), (8, 16), (9, 9)])
def test_rows_are_read_across_files(tmp_path, reader, rows, start, stop):
    out = np.empty((stop - start, ROW), np.uint8)
    reader.read(stored(tmp_path, *rows), start * ROW, out)
    assert np.array_equal(out, CONTENT[start:stop])


def test_rows_go_into_a_part_of_a_flat_buffer(tmp_path, reader):
    buffer = np.zeros(6 * ROW, np.uint8)
    reader.read(stored(tmp_path, 24), 2 * ROW, buffer[ROW : 3 * ROW])
    assert np.array_equal(buffer.reshape(6, ROW)[1:3], CONTENT[2:4])
    assert not buffer[:ROW].any()
    assert not buffer[3 * ROW :].any()


@pytest.mark.parametrize(
    "out",
    [
        np.empty(8, np.float32),
        np.empty((1, 2 * ROW), np.uint8)[:, ::2],
    ],
    ids=["float", "strided"],
)
def test_a_buffer_that_does_not_fit_is_the_callers_mistake(tmp_path, reader, out):
    with pytest.raises(ValueError, match="don't go into"):
        reader.read(stored(tmp_path, 24), 0, out)


def test_a_file_cut_short_after_it_was_opened_is_an_error(tmp_path, reader):
    tensor = stored(tmp_path, 24)
    out = np.empty((24, ROW), np.uint8)
    reader.read(tensor, 0, out)
    with tensor[0].path.open("r+b") as file:
        file.truncate(100)
    with pytest.raises(ModelError, match=r"0\.bin: ends at byte 100, before blk\.0\.attn_q\.weight does"):
        reader.read(tensor, 0, out, tensor="blk.0.attn_q.weight")


def test_a_file_that_is_not_as_large_as_it_was_is_refused(tmp_path, reader):
    tensor = stored(tmp_path, 24)
    with tensor[0].path.open("ab") as file:
        file.write(b"!")
    with pytest.raises(ModelError, match=r"0\.bin: has 783 bytes, but had 782 when its header was read"):
        reader.read(tensor, 0, np.empty(ROW, np.uint8))


def test_a_file_that_went_away_is_an_error(tmp_path, reader):
    tensor = stored(tmp_path, 24)
    tensor[0].path.unlink()
    with pytest.raises(
        ModelError, match=r"0\.bin: can't be read at byte 39, in output\.weight: No such file"
    ):
        reader.read(tensor, ROW, np.empty(ROW, np.uint8), tensor="output.weight")


def test_bytes_that_the_tensor_does_not_have_are_the_callers_mistake(tmp_path, reader):
    with pytest.raises(ValueError, match="output has no byte 799"):
        reader.read(stored(tmp_path, 12, 12), 23 * ROW, np.empty(2 * ROW, np.uint8), tensor="output")


def test_hundreds_of_shards_do_not_stay_open(tmp_path, monkeypatch):
    tensor = stored(tmp_path, *[1] * 24)
    opened = []
    path_open = Path.open
    monkeypatch.setattr(Path, "open", lambda *args, **kw: opened.append(path_open(*args, **kw)) or opened[-1])
    with TensorReader(max_open=4) as reader:
        out = np.empty((24, ROW), np.uint8)
        reader.read(tensor, 0, out)
        assert np.array_equal(out, CONTENT)
        assert (len(opened), sum(not file.closed for file in opened)) == (24, 4)
    assert all(file.closed for file in opened)


def test_threads_share_a_reader(tmp_path, reader):
    tensor = stored(tmp_path, *[3] * 8)

    def read(i: int) -> bool:
        start = i * 7 % 20
        out = np.empty((4, ROW), np.uint8)
        reader.read(tensor, start * ROW, out)
        return np.array_equal(out, CONTENT[start : start + 4])

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(400)))


def test_threads_share_a_reader_that_may_keep_one_file(tmp_path):
    tensor = stored(tmp_path, *[3] * 8)

    def read(i: int) -> bool:
        out = np.empty((24, ROW), np.uint8)
        reader.read(tensor, 0, out)
        return np.array_equal(out, CONTENT)

    with TensorReader(max_open=1) as reader, ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(100)))


def fails(monkeypatch, code, times, done=100):
    """The first reads fail, after so many bytes; the pauses that were made."""
    pauses, left, real = [], [times], tensor_reader._OpenFile.read_into

    def read_into(self, part, offset, *, positional):
        if left[0]:
            left[0] -= 1
            raise OSError(code, os.strerror(code))
        return real(self, part[:done], offset, positional=positional)

    monkeypatch.setattr(tensor_reader._OpenFile, "read_into", read_into)
    monkeypatch.setattr(tensor_reader.time, "sleep", pauses.append)
    return pauses


@pytest.mark.parametrize("code", [errno.EIO, errno.ETIMEDOUT])
@pytest.mark.parametrize("times", [1, 3])
def test_a_server_that_is_away_for_a_while_is_asked_again(tmp_path, reader, monkeypatch, code, times):
    pauses = fails(monkeypatch, code, times)
    out = np.empty((24, ROW), np.uint8)
    reader.read(stored(tmp_path, 24), 0, out)
    assert np.array_equal(out, CONTENT)
    assert pauses == list(tensor_reader._PAUSES)[:times]


@pytest.mark.parametrize(("code", "times"), [(errno.EIO, 4), (errno.EACCES, 1), (errno.EINVAL, 1)])
def test_a_disk_that_is_broken_is_told(tmp_path, reader, monkeypatch, code, times):
    pauses = fails(monkeypatch, code, times)
    with pytest.raises(ModelError, match=r"can't be read at byte 7, in blk: ") as caught:
        reader.read(stored(tmp_path, 24), 0, np.empty((24, ROW), np.uint8), tensor="blk")
    assert caught.value.problems[0].file == tmp_path / "0.bin"
    assert len(pauses) == times - 1
