"""Kernels as Python calls them: what they take and give, what they refuse, and what they need of the process."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from quantrecipe.core import machine_code
from quantrecipe.core.compiler import HOST, compile_kernel
from quantrecipe.core.jit import DECODE, Kernel, NotCached, kernel, only_cached
from quantrecipe.core.machine_code import (
    LEVELS,
    _address,
    _Linker,
    cpu_level,
    find_machine_code,
    keep_machine_code,
    link,
    ship_machine_code,
)


@kernel(DECODE)
def _widen(data: Any, rows: Any) -> None:
    flat, to = data.reshape(data.size), rows.reshape(rows.size)
    for i in range(flat.size):
        to[i] = flat[i]


@kernel("int64(UniTuple(Array(int16, 1, 'C', True), 2), int32[:,:,::1], int64)")
def _sum_of_all(pair: Any, cube: Any, step: int) -> int:
    total = 0
    for part in pair:
        for i in range(part.size):
            total += part[i]
    for i in range(cube.shape[0]):
        for j in range(cube.shape[1]):
            for k in range(cube.shape[2]):
                cube[i, j, k] += step
                total += cube[i, j, k]
    return total


@kernel("float64(float64)")
def _half(x: Any) -> Any:
    return x / 2


@kernel("float32(float32, uint16)")
def _scaled(x: Any, times: Any) -> Any:
    return x * np.float32(times)


@kernel("boolean(int8)")
def _is_negative(x: Any) -> Any:
    return x < 0


@kernel("uint16(uint16)")
def _next(x: Any) -> Any:
    return x + 1


@kernel("int64(int64)")
def _allocate(count: int) -> int:
    room = np.zeros(count, np.uint8)
    room[count - 1] = 1
    return room.sum()


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12, dtype=np.float32),
        np.arange(12, dtype=np.uint8)[5:],
        np.zeros((3, 4)).T,
        np.empty((0, 3)),
        np.frombuffer(b"read only", np.uint8),
    ],
)
def test_where_an_array_lies(array: np.ndarray[Any, Any]) -> None:
    assert _address(array) == array.ctypes.data


def test_numbers_in_and_out() -> None:
    assert _half(np.float64(5)) == 2.5
    found = _scaled(1.5, 3)
    assert (found, type(found)) == (4.5, np.float32)
    assert _is_negative(-3) is np.True_
    assert _is_negative(3) is np.False_
    assert _next(65535) == 0
    assert _sum_of_all((np.int16([1, -2]), np.int16([30])), np.zeros((2, 1, 3), np.int32), -1) == 23
    with pytest.raises(OverflowError):
        _next(65536)


def test_arrays_of_several_dimensions_are_as_python_sees_them() -> None:
    cube = np.arange(24, dtype=np.int32).reshape(2, 3, 4)
    assert _sum_of_all((np.int16([]), np.int16([5])), cube, 2) == 5 + 276 + 48
    assert cube[1, 2].tolist() == [22, 23, 24, 25]


BYTES, FLOATS = np.zeros((2, 4), np.uint8), np.zeros((2, 4), np.float32)


def read_only() -> np.ndarray[Any, Any]:
    rows = np.zeros((2, 4), np.float32)
    rows.flags.writeable = False
    return rows


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((BYTES,), "takes 2 arguments, not 1"),
        (
            (FLOATS, FLOATS),
            "argument 0 must be a C-contiguous array of uint8 with 2 dimensions, but is an array of",
        ),
        ((BYTES[0], FLOATS), r"argument 0 must be .*, but is an array of uint8 of shape \(4,\)"),
        ((BYTES.T, FLOATS), "argument 0 must be .*, not C-contiguous"),
        ((BYTES, FLOATS[:, ::2]), "argument 1 must be .*, not C-contiguous"),
        ((BYTES, read_only()), "argument 1 must be a writeable C-contiguous array of float32 .*, read-only"),
        ((BYTES, FLOATS.astype(">f4")), "argument 1 must be .*, but is an array of >f4"),
        ((BYTES, [[1.0]]), "argument 1 must be .*, but is list"),
    ],
)
def test_what_would_be_read_or_written_wrongly_is_refused(args: tuple[Any, ...], said: str) -> None:
    with pytest.raises(TypeError, match=rf"<kernel .*\._widen>:? .*{said}"):
        _widen(*args)


def test_a_tuple_of_another_length_is_refused() -> None:
    said = "argument 0 must be a tuple of a C-contiguous array of int16 with 1 dimension and"
    with pytest.raises(TypeError, match=said):
        _sum_of_all((np.int16([1]),), np.zeros((1, 1, 1), np.int32), 0)


def test_unaligned_arrays_are_refused() -> None:
    rows = np.zeros(33, np.uint8)[1:].view(np.float32).reshape(2, 4)
    with pytest.raises(TypeError, match="argument 1"):
        _widen(BYTES, rows)


def test_memory_that_a_kernel_takes_is_given_back() -> None:
    assert _allocate(1 << 20) == 1
    before = psutil.Process().memory_info().rss
    for _ in range(300):
        _allocate(1 << 22)
    assert psutil.Process().memory_info().rss - before < 1 << 28


def test_memory_that_there_isn_t() -> None:
    with pytest.raises(MemoryError, match="_allocate> found no memory"):
        _allocate(1 << 60)


DRAWING = """
from quantrecipe.core.jit import kernel
import numpy as np, sys

@kernel("float64(int64)")
def draw(seed):
    np.random.seed(seed)
    return np.random.random()

print(draw(1) == draw(1), draw(1) == draw(2), 0 < draw(3) < 1)
"""


@pytest.mark.slow
def test_what_needs_more_than_the_c_library_gets_it(tmp_path: Path) -> None:
    """Random numbers are numba's, in memory that it provides: when compiled, and when loaded again."""
    script = tmp_path / "drawing.py"
    script.write_text(DRAWING)
    environment = os.environ | {"QUANTRECIPE_CACHE_DIR": str(tmp_path / "cache")}
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, str(script)], env=environment, capture_output=True, text=True, check=True
        )
        assert done.stdout.split() == ["True", "False", "True"]


@pytest.mark.parametrize("signature", ["void(float32[:])", "void(Array(uint8, 1, 'F', True))"])
def test_arrays_that_may_lie_anyhow_are_no_part_of_a_signature(signature: str) -> None:
    with pytest.raises(TypeError, match="a kernel's arrays are C-contiguous and aligned"):
        kernel(signature)(lambda x: None)(np.zeros(1, np.float32))


@pytest.mark.parametrize(
    ("machine", "missing", "level"),
    [
        ("x86_64", [], "x86-64-v4"),
        ("AMD64", ["avx512bw"], "x86-64-v3"),
        ("x86_64", ["avx2"], ""),
        ("aarch64", [], "arm64"),
        ("arm64", ["avx2"], "arm64"),
        ("riscv64", [], ""),
    ],
)
def test_the_level_of_a_cpu(
    machine: str, missing: list[str], level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = {name: name not in missing for name in LEVELS["x86-64-v4"]}
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr("llvmlite.binding.get_host_cpu_features", lambda: features)
    assert cpu_level.__wrapped__() == level


def test_a_package_may_carry_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then there is nothing to compile; for another level of CPUs, or of another kernel, they are no use."""
    monkeypatch.setenv("QUANTRECIPE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(machine_code, "SHIPPED", tmp_path / "shipped")
    monkeypatch.setattr(machine_code, "cpu_level", lambda: "some")
    folder = tmp_path / "shipped" / "some"
    folder.mkdir(parents=True)
    half: Any = _half
    ship_machine_code(half, compile_kernel(half, cpu_level() or HOST), folder)
    with only_cached():
        assert Kernel(half.function, half.signature)(3.0) == 1.5
    other = kernel("float64(float64)")(_next.function)  # type: ignore[attr-defined]
    with only_cached(), pytest.raises(NotCached):
        other(1.0)
    monkeypatch.setattr(machine_code, "cpu_level", lambda: "another")
    with only_cached(), pytest.raises(NotCached):
        Kernel(half.function, half.signature)(3.0)


def test_threads_that_load_their_first_kernels_at_once_share_a_linker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that is dropped takes the code with it that others are about to call."""
    half: Any = _half
    code = compile_kernel(half, cpu_level() or HOST)
    made: list[_Linker] = []

    class Slow(_Linker):
        def __init__(self) -> None:
            made.append(self)
            time.sleep(0.05)
            super().__init__()

    monkeypatch.setattr(machine_code, "_Linker", Slow)
    monkeypatch.setattr(machine_code, "_linker", cache(machine_code._linker.__wrapped__))
    threads = [threading.Thread(target=link, args=(code, "half")) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


CROWDED = """
import mmap
from quantrecipe.core.compiler import compile_kernel
from quantrecipe.core.jit import kernel
from quantrecipe.core.machine_code import link

@kernel("float64(float64)")
def long(x):
{lines}
    return x

def reserve(size):
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)

code = compile_kernel(long)
pages = [reserve(mmap.PAGESIZE) for _ in range(512)]
taken = [reserve(1 << bits) for bits in range(32, 12, -1) for _ in range(32)]
for page in pages[::2]:  # places for the constants, 128 GiB from the next for the code
    page.close()
assert abs(link(code, "long")(0.0) - 0.6) < 1e-9
print("loaded")
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere memory is given in other ways")
def test_code_is_near_its_constants_in_a_crowded_process(tmp_path: Path) -> None:
    script = tmp_path / "crowded.py"
    script.write_text(CROWDED.format(lines="    x = x * 0.5 + 0.3\n" * 1000))
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "loaded\n"), done.stderr


@pytest.mark.parametrize("damage", [(b'"symbol": "', b'"symbol": "x'), (b'"float64"', b'"flout64"')])
def test_a_damaged_file_is_as_good_as_none(
    damage: tuple[bytes, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where only what is said of the code is damaged; what else there is of the kernel is taken then."""
    monkeypatch.setenv("QUANTRECIPE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(machine_code, "SHIPPED", tmp_path / "shipped")
    monkeypatch.setattr(machine_code, "cpu_level", lambda: "some")
    folder = tmp_path / "shipped" / "some"
    folder.mkdir(parents=True)
    half: Any = _half
    code = compile_kernel(half, HOST)
    ship_machine_code(half, code, folder)
    (shipped,) = folder.iterdir()
    shipped.write_bytes(shipped.read_bytes().replace(*damage))
    assert find_machine_code(half) is None
    keep_machine_code(half, code)
    assert find_machine_code(half) == code


def test_without_sources_there_is_nothing_to_tell_kernels_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shipped").mkdir()
    monkeypatch.setattr(machine_code, "SHIPPED", tmp_path / "shipped")
    monkeypatch.setattr(machine_code, "cpu_level", lambda: "some")
    sourceless = kernel("float64(float64)")(eval("lambda x: x", {}))
    assert find_machine_code(sourceless) is None  # type: ignore[arg-type]
