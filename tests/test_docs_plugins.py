"""docs/plugins/ and docs/architecture.md say what is there, and their examples run."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from support.distributions import install, run_python
from test_imports import BOTTOM, MAY_IMPORT

import quantrecipe
from quantrecipe import hookspecs
from quantrecipe.api import API_VERSION
from quantrecipe.scaffold import example_plugin
from quantrecipe.testing import (
    ARCHITECTURE_CHECKS,
    ENCODER_CHECKS,
    EXECUTOR_CHECKS,
    FORMAT_CHECKS,
    MODEL_CHECKS,
    TENSOR_CHECKS,
)

DOCS = Path(__file__).parent.parent / "docs"
PLUGINS = (DOCS / "plugins" / "reference.md").read_text(encoding="utf-8")
TUTORIAL = (DOCS / "plugins" / "tutorial.md").read_text(encoding="utf-8")
ARCHITECTURE = (DOCS / "architecture.md").read_text(encoding="utf-8")
PYTHON_BLOCKS = re.findall(r"```python\n(.*?)```", PLUGINS, re.DOTALL)


@pytest.mark.parametrize("hook", hookspecs.__all__)
def test_every_hook_is_documented_with_its_example(hook: str) -> None:
    returns = inspect.signature(getattr(hookspecs, hook)).return_annotation
    assert f"### `{hook}() -> {returns}`" in PLUGINS
    summary, example = inspect.cleandoc(getattr(hookspecs, hook).__doc__).split("\n\n", 1)
    assert f"\n{summary}\n" in PLUGINS
    assert inspect.cleandoc(example) in [block.strip() for block in PYTHON_BLOCKS]


def test_the_whole_plugin_loads_and_keeps_its_promises(tmp_path: Path) -> None:
    install(tmp_path, "quantrecipe-mine", PYTHON_BLOCKS[0], name="mine")
    lost, finite = run_python(
        """
        import json
        import numpy as np
        from quantrecipe import load_registry
        from quantrecipe.errors import NonFiniteError
        registry = load_registry()
        fmt = registry.format("P8_0")
        rows = np.random.default_rng(0).standard_normal((8, 256)).astype(np.float32)
        data = fmt.encode(rows)
        assert data.shape == (8, fmt.spec.row_bytes(256))
        assert (np.concatenate([fmt.encode(rows[:3]), fmt.encode(rows[3:])]) == data).all()
        off = np.linalg.norm(rows - fmt.decode(data, 256)) / np.linalg.norm(rows)
        rows[0, 0] = np.nan
        try:
            fmt.encode(rows)
            refused = False
        except NonFiniteError:
            refused = True
        print(json.dumps([float(off / fmt.spec.error_bound), refused]))
        """,
        site=tmp_path,
    )
    assert 0 < lost < 1
    assert finite


def test_the_executor_of_the_docs_keeps_its_promises() -> None:
    block = next(block for block in PYTHON_BLOCKS if "class Queue(Executor)" in block)
    names: dict[str, Any] = {}
    exec(block, names)
    for check in EXECUTOR_CHECKS:
        check(names["Queue"](), 0)


def test_the_interface_version_is_the_one_that_the_docs_show() -> None:
    assert f"QUANTRECIPE_API = {API_VERSION}" in PLUGINS


def test_every_part_has_its_place_in_the_architecture() -> None:
    package = Path(quantrecipe.__file__).parent
    parts = {path.parent.name + "/" for path in package.glob("*/__init__.py")}
    parts |= {path.name for path in package.glob("*.py")} - {"__init__.py", "__main__.py"}
    assert [part for part in sorted(parts) if f"`{part}`" not in ARCHITECTURE] == []


def test_the_table_of_imports_is_the_one_that_is_enforced() -> None:
    """A row for each part, with what it may import, and only rows below it."""
    rows = re.findall(r"^\| `(\w+)(?:/|\.py)` \| .+ \| (.+) \|$", ARCHITECTURE, re.MULTILINE)
    said = {part: set() if imports == "nothing" else set(imports.split(", ")) for part, imports in rows}
    assert said == {part: others for part, others in MAY_IMPORT.items() if part not in ("", "__main__")}
    order = [part for part, _ in rows]
    assert [
        (part, other) for part in order for other in said[part] if order.index(other) < order.index(part)
    ] == []
    bottom = ARCHITECTURE.split("### The bottom\n")[1].split("\n#")[0]
    assert re.findall(r"^\| `(\w+)\.py` \|", bottom, re.MULTILINE) == BOTTOM[::-1]


def test_every_check_is_documented_with_its_promise() -> None:
    for check in (
        *FORMAT_CHECKS,
        *TENSOR_CHECKS,
        *MODEL_CHECKS,
        *ENCODER_CHECKS,
        *EXECUTOR_CHECKS,
        *ARCHITECTURE_CHECKS,
    ):
        promise = (check.__doc__ or "").splitlines()[0]
        assert f"| `{check.__name__}` | {promise} |" in PLUGINS


def test_the_tutorial_s_code_is_the_example_s() -> None:
    files = "\n".join(path.read_text(encoding="utf-8") for path in sorted(example_plugin().rglob("*.py")))
    blocks = re.findall(r"```python\n(.*?)```", TUTORIAL, re.DOTALL)
    assert len(blocks) > 5
    for block in blocks:
        assert block in files


def test_every_plugin_of_the_repository_is_in_the_gallery() -> None:
    gallery = (DOCS / "plugins" / "README.md").read_text(encoding="utf-8")
    for plugin in example_plugin().parent.glob("*/pyproject.toml"):
        assert f"[{plugin.parent.name}](" in gallery
