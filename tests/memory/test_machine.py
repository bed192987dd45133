"""GPUs and main memory, from what the programs of their makers print."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from quantrecipe.memory import machine
from quantrecipe.memory.machine import Gpu, detect_machine, processor_name

MIB = 1 << 20
GIB = 1 << 30

ROCM = """
device,VRAM Total Memory (B),VRAM Total Used Memory (B),Card Series,Card Model
card0,25753026560,1048576,Radeon RX 7900 XTX,0x744c
"""


def answers(**outputs: str) -> Callable[[Sequence[str]], str | None]:
    """A machine where these programs are, by name; `sysctl` answers by its last argument."""

    def run(command: Sequence[str]) -> str | None:
        name = command[0].replace("-", "_")
        return outputs.get(f"{name}_{command[-1].replace('.', '_')}" if name == "sysctl" else name)

    return run


def test_nvidia() -> None:
    run = answers(nvidia_smi="NVIDIA GeForce RTX 4070, 12282, 11000\nNVIDIA H200, 143771, 143000\n")
    found = detect_machine(run, system="Linux")
    assert found.gpus == (
        Gpu(name="NVIDIA GeForce RTX 4070", total=12282 * MIB, free=11000 * MIB, device="cuda"),
        Gpu(name="NVIDIA H200", total=143771 * MIB, free=143000 * MIB, device="cuda"),
    )
    assert not found.unified


def test_a_gpu_that_doesn_t_say_how_much_it_has_is_left_out() -> None:
    assert detect_machine(answers(nvidia_smi="NVIDIA GB10, [N/A], [N/A]\n"), system="Linux").gpus == ()


def test_amd() -> None:
    (gpu,) = detect_machine(answers(rocm_smi=ROCM), system="Linux").gpus
    assert (gpu.name, gpu.total, gpu.free) == ("Radeon RX 7900 XTX", 25753026560, 25753026560 - MIB)


@pytest.mark.parametrize(
    ("limit", "total"), [("", 64 * GIB * 2 // 3), ("49152\n", 48 * GIB), ("0\n", 64 * GIB * 2 // 3)]
)
def test_apple(monkeypatch: pytest.MonkeyPatch, limit: str, total: int) -> None:
    monkeypatch.setattr(machine.platform, "machine", lambda: "arm64")
    monkeypatch.setattr(machine, "_main_memory", lambda: (64 * GIB, 40 * GIB))
    run = answers(
        sysctl_iogpu_wired_limit_mb=limit,
        sysctl_machdep_cpu_brand_string="Apple M4 Max\n",
    )
    found = detect_machine(run, system="Darwin")
    assert found.unified
    assert (found.ram_total, found.ram_free) == (64 * GIB, 40 * GIB)
    assert found.gpus == (Gpu(name="Apple M4 Max", total=total, free=total, device="metal"),)


def test_no_gpu() -> None:
    found = detect_machine(answers(), system="Linux")
    assert found.gpus == ()
    assert found.ram_total >= found.ram_free > 0


def test_this_machine() -> None:
    assert detect_machine().ram_total > 64 * MIB


def test_a_driver_that_hangs_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(*args: object, **options: object) -> None:
        raise subprocess.TimeoutExpired("nvidia-smi", 10)

    monkeypatch.setattr(machine.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(machine.subprocess, "run", hang)
    assert detect_machine(system="Linux").gpus == ()


def test_the_processor_s_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nmodel name\t: AMD  EPYC 9004\nmodel name\t: another\n")
    monkeypatch.setattr(machine, "_CPUINFO", cpuinfo)
    assert processor_name(system="Linux") == "AMD EPYC 9004"
    run = answers(sysctl_machdep_cpu_brand_string="Apple M3 Max\n")
    assert processor_name(run, system="Darwin") == "Apple M3 Max"


@pytest.mark.parametrize("content", ["processor: 0\nBogoMIPS: 50\n", None])
def test_a_processor_without_a_name_is_its_kind(
    content: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux on ARM lists no model."""
    if content is not None:
        (tmp_path / "cpuinfo").write_text(content)
    monkeypatch.setattr(machine, "_CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr("platform.processor", lambda: "")
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert processor_name(system="Linux") == "aarch64"
    assert processor_name(system="Windows") == "aarch64"
