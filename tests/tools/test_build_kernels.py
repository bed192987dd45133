"""Kernels ahead of time: which there are, and what a wheel makes of them."""

from __future__ import annotations

import gc
import importlib.util
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
