"""The analyses in the documentation of plugins keep what analyses promise; so do the built-in ones."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from quantrecipe import load_registry
from quantrecipe.api import Analysis, ModelAnalysis, TensorAnalysis
from quantrecipe.testing import MODEL_CHECKS, TENSOR_CHECKS

PAGE = Path(__file__).parents[2] / "docs/plugins/reference.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def documented(name: str) -> Analysis:
    """An analysis of the page, in a module of its own: what it sends to another process is found there by its name."""
    block = next(block for block in BLOCKS if f"class {name}(" in block)
    module = ModuleType(f"documented_{name.lower()}")
    sys.modules[module.__name__] = module
    exec(compile(block, str(PAGE), "exec"), module.__dict__)
    made: Analysis = getattr(module, name)()
    return made


DOCUMENTED = [documented(name) for name in ("Outliers", "Head", "Quiet")]
ANALYSES = [*DOCUMENTED, *load_registry(plugins=False).analyses.values()]


@pytest.mark.parametrize("analysis", ANALYSES, ids=lambda item: item.name)
def test_keeps_its_promises(analysis: Analysis) -> None:
    if isinstance(analysis, TensorAnalysis):
        for check in TENSOR_CHECKS:
            check(analysis)
    else:
        assert isinstance(analysis, ModelAnalysis)
        for check in MODEL_CHECKS:
            check(analysis)
