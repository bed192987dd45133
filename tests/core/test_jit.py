"""Kernels compile on first use, see each other, and are loaded again only while their sources say the same."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quantrecipe.core.jit import DECODE, NotCached, disjoint_kernel, kernel, only_cached

FACTOR = np.float32(3)
TABLE = np.array([0, 1, 4, 9], np.float32)


@kernel
def _scaled(x: Any) -> Any:
    return x * FACTOR


def _adding(offset: float) -> Any:
    shift = np.float32(offset)

    @kernel
    def add(x: Any) -> Any:
        return _scaled(x) + shift

    return add


_add_one, _add_two = _adding(1), _adding(2)


@kernel(DECODE)
def _fill(data: Any, rows: Any) -> None:
    for i in range(rows.shape[1]):
        rows[0, i] = _add_one(TABLE[data[0, i]]) + _add_two(np.float32(0))


@disjoint_kernel
def _gather_sum(table: Any, at: Any, total: Any) -> None:
    for j in range(4):
        total[j] += table[at + j]


@kernel("void(Array(float32, 1, 'C', True), Array(uint16, 1, 'C', True), float32[::1])")
def _gather_sums(table: Any, places: Any, total: Any) -> None:
    for at in places:
        _gather_sum(table, at, total)


def test_disjoint_kernels_compute_what_is_written() -> None:
    total = np.zeros(4, np.float32)
    _gather_sums(np.arange(8, dtype=np.float32), np.array([0, 4, 1], np.uint16), total)
    assert total.tolist() == [5, 8, 11, 14]


def test_kernels_call_kernels_and_use_constants_and_free_variables() -> None:
    rows = np.zeros((1, 4), np.float32)
    _fill(np.arange(4, dtype=np.uint8)[None], rows)
    assert rows.tolist() == [[3, 6, 15, 30]]


def test_whether_a_kernel_has_to_be_compiled_can_be_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUANTRECIPE_CACHE_DIR", str(tmp_path))
    data, rows = np.zeros((1, 4), np.uint8), np.zeros((1, 4), np.float32)
    fresh = kernel(DECODE)(_fill.function)
    with only_cached(), pytest.raises(NotCached, match="_fill"):
        fresh(data, rows)
    assert not rows.any()
    fresh(data, rows)
    with only_cached():
        kernel(DECODE)(_fill.function)(data, rows)
    assert rows.tolist() == [[3, 3, 3, 3]]


def test_read_only_input_needs_no_second_compilation() -> None:
    data = np.zeros((1, 4), np.uint8)
    data.flags.writeable = False
    rows = np.zeros((1, 4), np.float32)
    _fill(data, rows)
    assert rows.tolist() == [[3, 3, 3, 3]]
    with pytest.raises(TypeError):
        _fill(data.astype(np.int64), rows)


def test_numba_s_own_functions_are_refused() -> None:
    """They would be compiled for no place in memory, and a change of them wouldn't be noticed."""
    import numba

    @numba.njit
    def helper(x: Any) -> Any:
        return x

    @kernel("float64(float64)")
    def calls(x: Any) -> Any:
        return helper(x)

    with pytest.raises(TypeError, match=r"calls.* which numba compiles: mark it with @kernel"):
        calls(1.0)


def test_a_kernel_says_where_it_is_from() -> None:
    assert repr(_scaled) == f"<kernel {__name__}._scaled>"
    assert _scaled.__name__ == "_scaled"


def test_many_threads_may_be_the_first() -> None:
    fresh = _adding(5)
    results: list[float] = []
    threads = [threading.Thread(target=lambda: results.append(float(fresh(np.float32(1))))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [8.0] * 8


MODULE = """
from quantrecipe.core.jit import kernel
import numpy as np
from helper import inner

OFFSET = np.float32({offset})

@kernel("float32(float32)")
def outer(x):
    return inner(x) + OFFSET
"""
HELPER = """
from quantrecipe.core.jit import kernel
import numpy as np

@kernel
def inner(x):
    return x * np.float32({factor})
"""


def run(folder: Path, cache: Path, **values: int) -> str:
    """Call outer(10) in a new process; says the result and whether it was compiled or loaded."""
    (folder / "outside.py").write_text(MODULE.format(offset=values.get("offset", 1)))
    (folder / "helper.py").write_text(HELPER.format(factor=values.get("factor", 2)))
    code = textwrap.dedent("""
        import numpy as np, outside, sys
        result = outside.outer(np.float32(10))
        print(int(result), "compiled" if "numba" in sys.modules else "loaded")
    """)
    environment = os.environ | {"QUANTRECIPE_CACHE_DIR": str(cache), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.mark.slow
def test_compiled_code_is_kept_until_any_source_that_it_depends_on_changes(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert run(tmp_path, cache) == "21 compiled"
    assert run(tmp_path, cache) == "21 loaded"
    assert run(tmp_path, cache, factor=3) == "31 compiled"  # a callee in another file
    assert run(tmp_path, cache, offset=5) == "25 compiled"
    assert run(tmp_path, cache) == "21 loaded"
    kept = [path for path in cache.rglob("*") if path.is_file()]
    for path in kept:
        path.write_bytes(b"damaged")
    assert run(tmp_path, cache) == "21 compiled"
    assert run(tmp_path, cache) == "21 loaded"


@pytest.mark.slow
def test_without_a_usable_cache_kernels_compile_all_the_same(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    assert run(tmp_path, blocked) == "21 compiled"
    assert run(tmp_path, blocked) == "21 compiled"


ALIKE = """
from quantrecipe.core.jit import kernel
import numpy as np

def adding(number):
    step = np.float32(number)

    @kernel
    def inner(x):  # too long for LLVM to copy it into its caller
{lines}

    @kernel("void(float32[::1])")
    def outer(x):
        inner(x)
        inner(x)

    return outer

one, two = adding(1), adding(2)
"""


@pytest.mark.slow
def test_kernels_of_one_name_that_several_processes_compiled_keep_apart(tmp_path: Path) -> None:
    lines = "        for i in range(1, x.size):\n            x[i] += x[i - 1] * step\n" * 12
    (tmp_path / "alike.py").write_text(ALIKE.format(lines=lines))
    environment = os.environ | {"QUANTRECIPE_CACHE_DIR": str(tmp_path / "cache")}

    def say(*names: str) -> list[str]:
        code = "import numpy, alike\n"
        for name in names:
            code += f"x = numpy.ones(2, 'f4'); alike.{name}(x); print(x[1])\n"
        command = [sys.executable, "-c", code]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout.split()

    assert say("one") == ["25.0"]
    assert say("two") == ["49.0"]
    assert say("one", "two") == ["25.0", "49.0"]
    assert say("two", "one") == ["49.0", "25.0"]
