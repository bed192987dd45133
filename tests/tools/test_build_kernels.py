"""Kernels ahead of time: which there are, and what a wheel makes of them."""

from __future__ import annotations

import gc
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from quantrecipe.core.jit import Kernel
from quantrecipe.core.kernel_format import KernelFormat
from quantrecipe.core.machine_code import SHIPPED
from quantrecipe.registry import load_registry

ROOT = Path(__file__).parents[2]


def load(path: Path) -> ModuleType:
    """A script as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_kernel_of_a_format_is_among_them() -> None:
    gc.unfreeze()  # the script looks for kernels among all objects, and conftest has set apart those of the imports
    found = load(ROOT / "tools/build_kernels.py").entries()
    assert len({id(kernel) for kernel in found}) == len(found)
    for fmt in load_registry(plugins=False).formats.values():
        if isinstance(fmt, KernelFormat):
            kernels = [fmt.kernels.encode, fmt.kernels.encode_weighted, fmt.kernels.decode]
            if fmt.kernels.grid is not None:
                kernels += [fmt.kernels.grid.scales, fmt.kernels.grid.put]
                if (shifts := getattr(fmt.kernels.grid, "shifts", None)) is not None:
                    kernels.append(shifts)
            assert all(kernel in found for kernel in kernels if isinstance(kernel, Kernel)), fmt.spec.name


_IN_A_NEW_PROCESS = """
import gc, importlib, runpy, sys
from quantrecipe.core.jit import Kernel
found = {id(kernel) for kernel in runpy.run_path(sys.argv[1])["entries"]()}
for name in sys.argv[2:]:
    importlib.import_module(name)
for it in gc.get_objects():
    if type(it) is Kernel and it.signature is not None and id(it) not in found:
        print(it)
"""


def test_no_module_has_a_kernel_that_is_not_among_them() -> None:
    """A new process, since tests have imported most modules here."""
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in sorted((ROOT / "quantrecipe").rglob("*.py"))
        if "@kernel(" in path.read_text(encoding="utf-8")
    ]
    assert "quantrecipe.encoders.thorough.losses" in modules
    command = [sys.executable, "-c", _IN_A_NEW_PROCESS, str(ROOT / "tools/build_kernels.py"), *modules]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == ""


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Any:
    """hatch_build's hook; hatchling is there only while something is built."""
    names = ["hatchling", "hatchling.builders", "hatchling.builders.hooks", "hatchling.builders.hooks.plugin"]
    for name in [*names, "hatchling.builders.hooks.plugin.interface"]:
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    interface: Any = sys.modules["hatchling.builders.hooks.plugin.interface"]
    interface.BuildHookInterface = SimpleNamespace
    return load(ROOT / "hatch_build.py").KernelsHook


@pytest.mark.parametrize(
    ("system", "platform", "tag"),
    [
        ("Linux", "linux-x86_64", "py3-none-manylinux_2_17_x86_64.musllinux_1_1_x86_64"),
        ("Darwin", "macosx-11.0-arm64", "py3-none-macosx_11_0_arm64"),
        ("Windows", "win-amd64", "py3-none-win_amd64"),
    ],
)
def test_a_wheel_with_kernels_is_for_one_system(
    system: str, platform: str, tag: str, hook: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.system", lambda: system)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr("sysconfig.get_platform", lambda: platform)
    folder = tmp_path / "quantrecipe/core" / SHIPPED.name / "x86-64-v3"
    folder.mkdir(parents=True)
    data: dict[str, Any] = {"artifacts": [], "pure_python": True}
    hook(root=str(tmp_path)).initialize("standard", data)
    assert data == {"artifacts": [], "pure_python": True}
    (folder / "a.o").touch()
    hook(root=str(tmp_path)).initialize("editable", data)
    assert data == {"artifacts": [], "pure_python": True}
    hook(root=str(tmp_path)).initialize("standard", data)
    assert data == {"artifacts": ["quantrecipe/core/kernels/**/*.o"], "pure_python": False, "tag": tag}
