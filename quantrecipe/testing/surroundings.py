"""What a format is among others: quick to import, its fallbacks lead somewhere, its name and type id are its own."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping

from quantrecipe.api import QuantFormat
from quantrecipe.registry import load_registry
from quantrecipe.testing.failure import require

__all__ = ["HEAVY", "check_fallback_ends", "check_light_import", "check_unique", "require_light"]

HEAVY = ("llama_cpp", "matplotlib", "numba", "scipy", "tensorflow", "torch", "transformers")
"""Packages that take long to import: every run of quantrecipe imports every plugin, so they wait for first use."""

_IMPORT = """
import importlib, json, sys
importlib.import_module(sys.argv[1])
print(json.dumps([name for name in sys.argv[2:] if name in sys.modules]))
"""


def check_light_import(fmt: QuantFormat, seed: int = 0) -> None:
    """Importing the module of the format, in a new process, imports no heavy package."""
    module = type(fmt).__module__
    if module != "__main__" and importlib.util.find_spec(module) is not None:
        require_light(module)  # what is made in a test or a session is imported by no run of quantrecipe


def require_light(module: str) -> None:
    """CheckFailure where importing it, in a new process, imports a heavy package."""
    result = subprocess.run(
        [sys.executable, "-c", _IMPORT, module, *HEAVY],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
        check=False,
    )
    require(result.returncode == 0, f"{module} can't be imported in a new process: {result.stderr[-500:]}")
    heavy = json.loads(result.stdout.splitlines()[-1])
    require(
        not heavy, f"importing {module} imports {', '.join(heavy)}: import them where they are first used"
    )


def check_fallback_ends(fmt: QuantFormat, seed: int = 0) -> None:
    """The fallbacks, one after the other, exist and end with a format that has no block to divide by."""
    formats = _formats_with(fmt)
    spec, met = fmt.spec, [fmt.spec.name]
    while spec.fallback is not None:
        require(
            spec.fallback in formats,
            f"{' → '.join(met)} falls back to {spec.fallback}, which isn't installed",
        )
        require(spec.fallback not in met, f"the fallbacks go in circles: {' → '.join([*met, spec.fallback])}")
        spec = formats[spec.fallback].spec
        met.append(spec.name)
    require(
        (spec.block == 1 and spec.rows_per_group == 1) or len(met) == 1,
        f"the fallbacks {' → '.join(met)} end with one that doesn't take every tensor: end them with F16",
    )


def check_unique(fmt: QuantFormat, seed: int = 0) -> None:
    """No other installed format has its name, or its type id within the dialect."""
    mine = type(fmt)
    for other in load_registry().formats.values():
        if type(other).__qualname__ == mine.__qualname__ and type(other).__module__ == mine.__module__:
            continue
        where = f"{type(other).__module__}.{type(other).__qualname__}"
        require(other.spec.name != fmt.spec.name, f"{where} is called {fmt.spec.name!r} too")
        same_id = (other.spec.dialect, other.spec.ggml_type) == (fmt.spec.dialect, fmt.spec.ggml_type)
        require(not same_id, f"{where} has type id {fmt.spec.ggml_type} of dialect {fmt.spec.dialect!r} too")


def _formats_with(fmt: QuantFormat) -> Mapping[str, QuantFormat]:
    return {**load_registry().formats, fmt.spec.name: fmt}
