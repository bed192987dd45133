"""What this machine has: GPUs and their memory, main memory. Asked of nvidia-smi, rocm-smi, sysctl and psutil."""

from __future__ import annotations

import csv
import platform
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Gpu", "Machine", "detect_machine", "processor_name"]

_MIB = 1 << 20
_CPUINFO = Path("/proc/cpuinfo")
_TIMEOUT = 10  # seconds: drivers can hang, and a machine without an answer counts as one without a GPU
_APPLE_SHARE = (2, 3)
"""Two thirds of main memory: what Metal lends a process where the system has no limit set."""

Run = Callable[[Sequence[str]], str | None]
"""Runs a program: its output, or None where there is none such, or it fails."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Gpu:
    """One GPU, with sizes in bytes. `device` is what the table of targets calls its kind."""

    name: str
    total: int
    free: int
    device: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """GPUs and main memory. `unified`: the GPU's memory is main memory."""

    gpus: tuple[Gpu, ...]
    ram_total: int
    ram_free: int
    unified: bool = False


def detect_machine(run: Run | None = None, *, system: str | None = None) -> Machine:
    """The GPUs and the main memory of this machine. `run` and `system` stand in for the real ones in tests."""
    run = run or _run
    system = system or platform.system()
    total, free = _main_memory()
    if system == "Darwin":
        return _apple(run, total, free)
    return Machine(gpus=(*_nvidia(run), *_amd(run)), ram_total=total, ram_free=free)


def processor_name(run: Run | None = None, *, system: str | None = None) -> str:
    """What this machine's processor is called; its architecture where the system doesn't say more."""
    system = system or platform.system()
    found = ""
    if system == "Linux":
        found = _of_cpuinfo(_CPUINFO)
    elif system == "Darwin":
        found = ((run or _run)(["sysctl", "-n", "machdep.cpu.brand_string"]) or "").strip()
    return " ".join((found or platform.processor() or platform.machine()).split())


def _of_cpuinfo(path: Path) -> str:
    """The first "model name" of Linux' list; "" where there is none, as on ARM."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _nvidia(run: Run) -> list[Gpu]:
    output = run(["nvidia-smi", "--query-gpu=name,memory.total,memory.free", "--format=csv,noheader,nounits"])
    found = []
    for row in csv.reader((output or "").splitlines(), skipinitialspace=True):
        if len(row) == 3 and row[1].isdecimal() and row[2].isdecimal():  # others: "[N/A]" of shared memory
            found.append(Gpu(name=row[0], total=int(row[1]) * _MIB, free=int(row[2]) * _MIB, device="cuda"))
    return found


def _amd(run: Run) -> list[Gpu]:
    output = run(["rocm-smi", "--showproductname", "--showmeminfo", "vram", "--csv"])
    lines = [line for line in (output or "").splitlines() if "," in line]
    found = []
    for row in csv.DictReader(lines):
        total = row.get("VRAM Total Memory (B)", "")
        used = row.get("VRAM Total Used Memory (B)", "")
        if total.isdecimal() and used.isdecimal():
            name = row.get("Card Series") or row.get("Card series") or row.get("device") or "AMD GPU"
            found.append(Gpu(name=name, total=int(total), free=int(total) - int(used), device="cuda"))
    return found


def _apple(run: Run, total: int, free: int) -> Machine:
    if platform.machine() not in ("arm64", "aarch64"):
        return Machine(gpus=(), ram_total=total, ram_free=free)
    said = (run(["sysctl", "-n", "iogpu.wired_limit_mb"]) or "").strip()
    limit = int(said) * _MIB if said.isdecimal() and int(said) else total * _APPLE_SHARE[0] // _APPLE_SHARE[1]
    name = (run(["sysctl", "-n", "machdep.cpu.brand_string"]) or "Apple GPU").strip()
    return Machine(
        gpus=(Gpu(name=name, total=limit, free=limit, device="metal"),),
        ram_total=total,
        ram_free=free,
        unified=True,
    )


def _main_memory() -> tuple[int, int]:
    """Bytes that the machine has, and bytes that programs can have without others being moved out."""
    import psutil  # only asked for where a budget of memory is

    memory = psutil.virtual_memory()
    return int(memory.total), int(memory.available)


def _run(command: Sequence[str]) -> str | None:
    program = shutil.which(command[0])
    if program is None:
        return None
    try:
        result = subprocess.run(
            [program, *command[1:]], capture_output=True, text=True, timeout=_TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout if result.returncode == 0 else None
