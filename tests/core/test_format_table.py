"""Formats of a table: their facts are there at once, their kernels when one of them runs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from support.distributions import run_python

from quantrecipe.api import FormatSpec, QuantFormat, StoredFloat
from quantrecipe.core import KernelFormat, read_formats

TABLE = """
[HALF_K]
ggml_type = 901
block = 2
block_bytes = 4
floats = [{ kind = "f16", at = [0, 1, 2, 3] }, { kind = "f32", name = "m", per = "row" }]
importance = "optional"

[SIGNS]
ggml_type = 902
block = 8
block_bytes = 1
"""
KERNELS = """
from quantrecipe.core import Kernels

def encode(rows, out):
    out[:] = 7

KERNELS = Kernels(encode=encode, decode=lambda data, rows: None)
"""


@pytest.fixture
def formats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[QuantFormat, ...]:
    package = tmp_path / "table_of_formats"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "signs.py").write_text(KERNELS)
    (package / "types.toml").write_text(TABLE)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("table_of_formats", "table_of_formats.signs"):
        monkeypatch.delitem(sys.modules, name, raising=False)

    class Picky(KernelFormat):
        def factor(self, peak: float) -> float:
            return 2 * peak

    return read_formats(package / "types.toml", "table_of_formats", {"HALF_K": Picky})


def test_what_the_table_says(formats: tuple[QuantFormat, ...]) -> None:
    assert [fmt.spec for fmt in formats] == [
        FormatSpec(
            name="HALF_K",
            ggml_type=901,
            block=2,
            block_bytes=4,
            floats=(StoredFloat(kind="f16", at=(0, 1, 2, 3)), StoredFloat(kind="f32", name="m", per="row")),
            importance="optional",
        ),
        FormatSpec(name="SIGNS", ggml_type=902, block=8, block_bytes=1),
    ]
    assert [repr(fmt) for fmt in formats] == ["HALF_K()", "SIGNS()"]


def test_some_are_more_than_that(formats: tuple[QuantFormat, ...]) -> None:
    half, _ = formats
    assert half.factor(3.0) == 6.0
    assert half.with_options({}).factor(1.0) == 2.0


def test_kernels_are_found_when_one_runs(formats: tuple[QuantFormat, ...]) -> None:
    import numpy as np

    _, signs = formats
    assert "table_of_formats.signs" not in sys.modules
    assert signs.encode(np.ones((3, 8), np.float32)).tolist() == [[7]] * 3
    assert "table_of_formats.signs" in sys.modules


def test_a_plan_imports_no_kernels() -> None:
    loaded = run_python(
        """
        import json, sys
        from quantrecipe import load_recipe, load_registry, make_plan, open_model
        registry = load_registry(plugins=False)
        make_plan(load_recipe("llama.cpp/Q4_K_M", registry=registry), open_model("shapes/qwen3-14b"), registry=registry)
        print(json.dumps([name for name in sys.modules if name.startswith("quantrecipe.core.")]))
        """
    )
    assert sorted(loaded) == ["quantrecipe.core.format_table", "quantrecipe.core.kernel_format"]
