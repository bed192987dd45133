"""The parts depend on each other in one direction, and what should start quickly imports little."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from support.distributions import run_python

import quantrecipe
from quantrecipe.gguf.header import TensorEntry
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.gguf.write_header import encode_header
from quantrecipe.output.warm import warm
from quantrecipe.registry import load_registry

PACKAGE = Path(quantrecipe.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

# The small modules at the bottom, each of which may import those before it. Every other part may import all of them.
BOTTOM = [
    "errors",
    "tensor",
    "wording",
    "layer_ranges",
    "units",
    "remote_files",
    "whole_file",
    "sha256sums",
    "packaged",
    "typed",
    "plain_data",
    "notebook",
]

# Part → the parts that it may import, besides itself and the bottom. A part is a module or a folder of the package; the
# package itself ("") has the version, which any part may ask for. Each part stands below those that it imports.
MAY_IMPORT = {
    part: set(others.split())
    for part, others in {
        "gguf": "",
        "targets": "api recipe registry",
        "scaffold": "",
        "api": "",
        "core": "api",
        "misplaced": "gguf",
        "hookspecs": "api model",
        "formats": "api core",
        "analyses": "api",
        "encoders": "api core",
        "executors": "api",
        "builtin": "analyses api encoders executors formats model",
        "entry_points": "",
        "plugin_loader": "api entry_points hookspecs",
        "missing_formats": "plugin_loader",
        "registry": "api missing_formats plugin_loader",
        "importance": "gguf misplaced",
        "model": "api core gguf misplaced",
        "recipe": "api gguf misplaced",
        "testing": "api executors model plugin_loader recipe registry",
        "memory": "model",
        "speed": "core memory model",
        "sensitivity": "api model registry",
        "texts": "gguf model",
        "engine": "core",
        "evaluate": "engine texts",
        "plan": "api gguf importance model recipe registry targets",
        "allocate": "api gguf memory model plan recipe registry sensitivity targets",
        "planning": "allocate importance model plan recipe registry sensitivity",
        "lint": "api model plan recipe registry targets",
        "pictures": "plan",
        "exchange": "gguf missing_formats model plan recipe registry",
        "output": "api core executors gguf importance model plan recipe registry",
        "calibration": "api engine executors gguf importance memory model output texts",
        "measure": "api core engine evaluate executors gguf importance memory model output plan recipe registry "
        "sensitivity speed",
        "refine": "api calibration core engine evaluate measure model output plan recipe registry",
        "release": "misplaced model recipe registry",
        "fit": "allocate api core engine evaluate importance lint measure memory model output plan planning recipe "
        "registry sensitivity speed targets",
        "studio": "allocate exchange fit importance lint memory model pictures plan planning recipe registry "
        "sensitivity speed targets",
        "cli": "allocate api calibration core engine evaluate exchange fit gguf importance lint measure memory "
        "misplaced model output pictures plan planning recipe refine registry release scaffold sensitivity speed "
        "studio targets testing texts",
        "": "calibration importance model output planning recipe registry sensitivity",
        "__main__": "cli",
    }.items()
}

EXCEPTIONS = {
    # What a caller doesn't pass is loaded; the function that says so is imported when that happens.
    ("model", "registry"): "open_model(registry=None) loads it",
    ("model", "plugin_loader"): "architectures are asked of plugins when a Hugging Face folder is opened",
    ("recipe", "registry"): "load_recipe(registry=None) loads it",
}


@cache  # five tests look at each module
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def part_of(module: str) -> str:
    """ "quantrecipe.recipe.load" → "recipe"."""
    return [*module.split("."), ""][1]


@cache
def imports(path: Path) -> tuple[tuple[str, int], ...]:
    return tuple(_imports(path))


def _imports(path: Path) -> Iterator[tuple[str, int]]:
    """Every module that a file imports, wherever in it, and the line."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            assert node.module is not None
            if node.module == "quantrecipe":  # from quantrecipe import hookspecs: a module, or a name
                for alias in node.names:
                    is_module = any(
                        (PACKAGE / f"{alias.name}{end}").exists() for end in (".py", "/__init__.py")
                    )
                    yield f"quantrecipe.{alias.name}" if is_module else "quantrecipe", node.lineno
            else:
                yield node.module, node.lineno


def module_name(path: Path) -> str:
    parts = ["quantrecipe", *path.relative_to(PACKAGE).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_imports_go_one_way() -> None:
    wrong = []
    for path in MODULES:
        part = part_of(module_name(path))
        assert part in BOTTOM or part in MAY_IMPORT, f"say in this test what {part} may import"
        may = {*BOTTOM[: BOTTOM.index(part)]} if part in BOTTOM else {*BOTTOM} | MAY_IMPORT[part]
        for module, line in imports(path):
            other = part_of(module)
            ours = module.split(".")[0] == "quantrecipe"
            if ours and other not in (part, "", *may) and (part, other) not in EXCEPTIONS:
                wrong.append(f"{path}:{line}: {part} imports {other}")
    assert wrong == []


def test_the_direction_has_no_circle() -> None:
    remaining = {part: others - {part, ""} for part, others in MAY_IMPORT.items()}
    while remaining:
        free = {part for part, others in remaining.items() if not others & remaining.keys()}
        assert free, f"these depend on each other: {sorted(remaining)}"
        remaining = {part: others for part, others in remaining.items() if part not in free}


def test_every_exception_is_needed() -> None:
    found = {
        (part_of(module_name(path)), part_of(module))
        for path in MODULES
        for module, _ in imports(path)
        if module.startswith("quantrecipe")
    }
    assert found >= EXCEPTIONS.keys()


@pytest.mark.parametrize(
    ("library", "user"),
    [
        ("numba", "core.compiler"),
        ("jinja2", "texts.sandbox"),
        ("pyarrow", "texts.parquet"),
        ("starlette", "studio.app"),
        ("uvicorn", "studio.server"),
    ],
)
def test_only_one_module_imports(library: str, user: str) -> None:
    users = {
        module_name(path)
        for path in MODULES
        for module, _ in imports(path)
        if module.split(".")[0] == library
    }
    assert users == {f"quantrecipe.{user}"}


def test_only_the_command_line_prints() -> None:
    wrong = []
    for path in (p for p in MODULES if PACKAGE / "cli" not in p.parents):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                wrong.append(f"{path}:{node.lineno}: print")
        used = {"rich", "click"} & {module.split(".")[0] for module, _ in imports(path)}
        if path == PACKAGE / "notebook.py":  # makes what rich is given by whoever prints
            used -= {"rich"}
        wrong += [f"{path}: {name}" for name in used]
    assert wrong == []


HEAVY = ("numba", "llvmlite", "scipy", "jinja2")


@pytest.mark.parametrize(
    "code",
    [
        "import quantrecipe",
        "from quantrecipe import load_registry; load_registry()",
        "from quantrecipe import open_model, load_recipe, make_plan, apply_plan",
        "from quantrecipe.cli import main; main(['--help'])",
        "from quantrecipe.cli import main; main(['plan', '--help'])",
        "from quantrecipe.cli import main; main(['formats'])",
    ],
)
def test_light_imports(code: str) -> None:
    loaded = run_python(
        f"""
        import contextlib, io, json, sys
        with contextlib.redirect_stdout(io.StringIO()):
            {code}
        print(json.dumps([name for name in {HEAVY} if name in sys.modules]))
        """
    )
    assert loaded == []


def test_help_loads_next_to_nothing() -> None:
    """Neither numpy nor rich: `--help` answers at once."""
    loaded = run_python(
        """
        import contextlib, io, json, sys
        from quantrecipe.cli import main
        with contextlib.redirect_stdout(io.StringIO()):
            main(["--help"])
        unwanted = ("numpy", "rich", "yaml", "pluggy", "gguf", "msgspec", "difflib", "shlex", "decimal")
        print(json.dumps([name for name in unwanted if name in sys.modules]))
        """
    )
    assert loaded == []


UNUSED = {
    "check": "numpy scipy numba gguf importlib.metadata subprocess concurrent.futures rich.progress",
    "plan": "numpy scipy numba gguf msgspec importlib.metadata subprocess decimal concurrent.futures rich.progress",
    "apply": "numba scipy gguf msgspec jsonschema psutil importlib.metadata subprocess rich.progress",
}
"""What a command has no use for where the model is a GGUF, there is no importance, and nobody watches."""


@pytest.mark.parametrize("command", UNUSED)
def test_a_command_loads_what_it_uses(command: str, tmp_path: Path) -> None:
    model, output = tmp_path / "model.gguf", tmp_path / "out.gguf"
    values = {"general.architecture": GGUFValue.of(ValueType.STRING, "llama")}
    entry = TensorEntry(name="output.weight", shape=(1, 32), ggml_type=0, offset=0)
    model.write_bytes(encode_header(values, [entry]) + bytes(128))
    said = {
        "check": ["check", "llama.cpp/Q8_0", "--model", str(model)],
        "plan": ["plan", "llama.cpp/Q8_0", str(model)],
        "apply": ["apply", "llama.cpp/F16", str(model), "-o", str(output)],
    }[command]
    for decode in (True, False):  # apply finds its kernels in the cache
        warm(load_registry(plugins=False).format("F32"), decode=decode)
    loaded = run_python(
        f"""
        import contextlib, io, json, sys
        from quantrecipe.cli import main
        with contextlib.redirect_stdout(io.StringIO()):
            status = main({said!r})
        print(json.dumps([status, *(name for name in {UNUSED[command].split()!r} if name in sys.modules)]))
        """
    )
    assert loaded == [0]


def test_every_module_says_what_it_is() -> None:
    assert [path for path in MODULES if not ast.get_docstring(tree(path))] == []


def test_what_is_public_is_there() -> None:
    """Names in `__all__` exist, once; their order is ruff's to check."""
    for path in (path for path in MODULES if path.name != "__main__.py"):
        module = importlib.import_module(module_name(path))
        names = getattr(module, "__all__", [])
        assert len(set(names)) == len(names), path
        assert [name for name in names if not hasattr(module, name)] == [], path
