"""Compile all kernels of the built-in formats ahead of time, for a level of CPUs.

    python tools/build_kernels.py x86-64-v3          this machine's processor has to be of that kind, not of that level
    python tools/build_kernels.py x86-64-v3 FOLDER   somewhere else than in the package

They go to quantrecipe/core/kernels/LEVEL, from where a wheel that is built next carries them (see hatch_build.py and
docs/decisions/0015-kernels-ahead-of-time.md). Whoever installs it compiles nothing.
"""

from __future__ import annotations

import argparse
import gc
import time
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

from rich.console import Console

from quantrecipe import core, encoders
from quantrecipe.core import finite
from quantrecipe.core.compiler import compile_kernel
from quantrecipe.core.jit import Kernel
from quantrecipe.core.kernel_format import KernelFormat
from quantrecipe.core.machine_code import LEVELS, SHIPPED, ship_machine_code
from quantrecipe.registry import load_registry


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("level", choices=LEVELS)
    parser.add_argument("folder", type=Path, nargs="?", default=SHIPPED)
    args = parser.parse_args()
    folder = args.folder / args.level
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.o"):
        old.unlink()
    started, console = time.perf_counter(), Console()
    kernels = entries()
    for number, kernel in enumerate(kernels, 1):
        console.print(f"{number} of {len(kernels)}: {kernel}", highlight=False)
        ship_machine_code(kernel, compile_kernel(kernel, args.level), folder)
    size = sum(path.stat().st_size for path in folder.glob("*.o"))
    seconds = time.perf_counter() - started
    console.print(f"{len(kernels)} kernels, {size / 1e6:.1f} MB, {seconds:.0f} s: {folder}", soft_wrap=True)


def entries() -> list[Kernel[..., object]]:
    """Every kernel that Python calls: of formats, of encoders, and of what reads models in 8 bits."""
    formats = load_registry(plugins=False).formats.values()
    found = [fmt.kernels for fmt in formats if isinstance(fmt, KernelFormat)]  # imports their modules
    for package in (core, encoders):  # most of whose modules are imported when they are used
        for module in walk_packages(package.__path__, f"{package.__name__}."):
            import_module(module.name)
    kernels = [it for it in gc.get_objects() if type(it) is Kernel and it.signature is not None]
    assert found
    assert finite.all_finite in kernels
    return sorted(kernels, key=lambda kernel: (kernel.__module__, kernel.__qualname__))


if __name__ == "__main__":
    main()
