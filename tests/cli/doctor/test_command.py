"""quantrecipe doctor: each kind of finding, the exit status, and what a person sees."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.distributions import install
from support.terminal import show

import quantrecipe
from quantrecipe.cli import main
from quantrecipe.cli.doctor import checks as doctor_checks
from quantrecipe.core import machine_code
from quantrecipe.engine import Engine, libraries
from quantrecipe.engine import report as report_module
from quantrecipe.engine.bindings import Device
from quantrecipe.memory.machine import Gpu, Machine

CPU = Device(name="CPU", description="A processor", total=16 << 30, free=8 << 30, is_cpu=True)
GPU = Device(name="CUDA0", description="A card", total=8 << 30, free=7 << 30, is_cpu=False)
MACHINE = Machine(gpus=(), ram_total=16 << 30, ram_free=12 << 30)

Output = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No engine, a cache of its own, and a numba that starts."""
    for name in ("QUANTRECIPE_ENGINE", "LLAMA_CPP_LIB_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(libraries, "find_spec", lambda name: None)
    monkeypatch.setattr(doctor_checks, "_numba_fails", lambda: "")
    monkeypatch.setenv("QUANTRECIPE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", "")
    monkeypatch.chdir(tmp_path)


def with_engine(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    *devices: Device,
    refused: tuple[str, ...] = (),
    sealed: str = "",
) -> Path:
    """A folder with an engine that says this of itself."""
    folder.mkdir()
    (folder / "libllama.so").write_bytes(b"")

    def said(engine: Engine) -> dict[str, Any]:
        plain = [{name: getattr(device, name) for name in device.__slots__} for device in devices]
        return {
            "version": "b7000, ggml 0.9",
            "devices": plain,
            "refused": list(refused),
            "sealed": sealed,
        }

    monkeypatch.setattr(report_module, "ask_engine", said)
    return folder


def doctor(capsys: Output, *args: str) -> tuple[int, dict[str, list[dict[str, Any]]]]:
    """The exit status, and the findings by name."""
    status = main(["--no-plugins", "doctor", "--json", *args])
    said = json.loads(capsys.readouterr().out)
    assert said["ok"] == (status == 0)
    found: dict[str, list[dict[str, Any]]] = {}
    for finding in said["findings"]:
        found.setdefault(finding["name"], []).append(finding)
    return status, found


def test_what_is_installed(capsys: Output) -> None:
    status, found = doctor(capsys)
    assert status == 0
    (ours,) = found["quantrecipe"]
    assert ours["facts"]["version"] == quantrecipe.__version__
    assert ours["facts"]["folder"] == str(Path(quantrecipe.__file__).parent)
    (packages,) = found["packages"]
    assert (packages["status"], set(packages["facts"]) >= {"numpy", "numba", "click"}) == ("ok", True)


def test_no_engine_is_no_fault_and_the_three_ways_stand_below(capsys: Output) -> None:
    status, found = doctor(capsys)
    assert status == 0
    (engine,) = found["engine"]
    assert engine["status"] == "missing"
    assert "eval, sensitivity --text, fit --text and fit --verify need it" in engine["what"]
    assert len(engine["lines"]) == 3
    assert engine["lines"][2].endswith("pip install llama-cpp-python")


def test_an_engine_with_its_devices(capsys: Output, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = with_engine(monkeypatch, tmp_path / "engine", GPU, CPU)
    status, found = doctor(capsys, "--engine", str(folder))
    (engine,) = found["engine"]
    assert (status, engine["status"], engine["what"]) == (0, "ok", "llama.cpp b7000, ggml 0.9, from --engine")
    assert engine["lines"] == [
        str(folder / "libllama.so"),
        "CUDA0 (A card), 8.00 GiB of memory (7.00 GiB free)",
        "CPU (A processor), 16.00 GiB of memory (8.00 GiB free)",
    ]
    assert engine["facts"]["devices"][0]["total"] == 8 << 30
    monkeypatch.setenv("QUANTRECIPE_ENGINE", str(folder))
    assert doctor(capsys)[1]["engine"][0]["what"].endswith("from QUANTRECIPE_ENGINE")


def test_an_engine_that_is_named_and_isn_t_there(capsys: Output, tmp_path: Path) -> None:
    status, found = doctor(capsys, "--engine", str(tmp_path / "none"))
    assert (status, found["engine"][0]["status"]) == (1, "broken")
    assert "there is nothing of that name" in found["engine"][0]["what"]


def test_an_engine_that_can_t_be_loaded(capsys: Output, tmp_path: Path) -> None:
    """The real probe, in its process."""
    (tmp_path / "libllama.so").write_text("no library", encoding="ascii")
    status, found = doctor(capsys, "--engine", str(tmp_path))
    assert (status, found["engine"][0]["status"]) == (1, "broken")
    assert "can't be loaded" in found["engine"][0]["what"]


def test_an_engine_that_can_t_be_looked_into(
    capsys: Output, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = with_engine(monkeypatch, tmp_path / "e", CPU, sealed="this llama.cpp has other structs")
    status, found = doctor(capsys, "--engine", str(folder))
    assert (status, [finding["status"] for finding in found["engine"]]) == (0, ["ok", "note"])
    assert found["engine"][1]["what"].endswith("takes longer: this llama.cpp has other structs")


def test_a_backend_that_can_t_be_loaded(
    capsys: Output, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = with_engine(
        monkeypatch, tmp_path / "e", CPU, refused=("libggml-cuda.so: libcudart.so.12: no such file",)
    )
    status, found = doctor(capsys, "--engine", str(folder))
    assert (status, [finding["status"] for finding in found["engine"]]) == (0, ["ok", "note"])
    assert found["engine"][1]["what"] == "can't load libggml-cuda.so: libcudart.so.12: no such file"


def test_a_gpu_that_the_engine_can_t_use(
    capsys: Output, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    card = Gpu(name="RTX 4090", total=24 << 30, free=20 << 30, device="cuda")
    monkeypatch.setattr("quantrecipe.memory.machine.detect_machine", lambda: machine)
    machine = Machine(gpus=(card,), ram_total=16 << 30, ram_free=12 << 30)
    folder = with_engine(monkeypatch, tmp_path / "engine", CPU)
    status, found = doctor(capsys, "--engine", str(folder))
    assert (status, found["engine"][1]["status"]) == (0, "note")
    assert "this machine has RTX 4090, which this llama.cpp can't use" in found["engine"][1]["what"]
    assert found["machine"][0]["lines"] == ["RTX 4090, 24.00 GiB of memory (20.00 GiB free)"]
    with_engine(monkeypatch, tmp_path / "better", GPU, CPU)
    assert len(doctor(capsys, "--engine", str(tmp_path / "better"))[1]["engine"]) == 1


def test_a_plugin_that_can_t_be_loaded(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    install(tmp_path / "site", "quantrecipe-wreck", "raise RuntimeError('no [bold]GPU')")
    env = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    command = [sys.executable, "-m", "quantrecipe", "doctor"]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False, encoding="utf-8")
    assert done.returncode == 1
    assert "RuntimeError: no [bold]GPU" in done.stdout
    assert done.stderr == ""


def test_packages_that_are_missing_or_too_old(capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = ["click>=8.1", "numpy>=999", "never-was-there", "matplotlib>=3.8; extra == 'plots'"]
    monkeypatch.setattr(doctor_checks, "requires", lambda name: wanted)
    status, found = doctor(capsys)
    (packages,) = found["packages"]
    assert (status, packages["status"]) == (1, "broken")
    assert "numpy " in packages["what"]
    assert "never-was-there is missing" in packages["what"]
    assert "click" not in packages["what"]
    assert packages["lines"] == ["pip install --upgrade --force-reinstall quantrecipe"]


def test_a_numba_that_doesn_t_start(capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_checks, "_numba_fails", lambda: "ImportError: Numba needs NumPy 2.3 or less")
    status, found = doctor(capsys)
    assert (status, found["packages"][0]["status"]) == (1, "broken")
    assert "Numba needs NumPy 2.3 or less" in found["packages"][0]["what"]


def test_without_numpy_the_rest_is_still_told(tmp_path: Path) -> None:
    (tmp_path / "numpy.py").write_text("raise ImportError('no numpy here')", encoding="utf-8")
    env = os.environ | {"PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "quantrecipe", "doctor", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False, encoding="utf-8")
    assert (done.returncode, done.stderr) == (1, "")
    findings = {finding["name"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert "no numpy here" in findings["packages"]["what"]
    assert {findings[name]["status"] for name in ("quantrecipe", "plugins", "plots")} == {"ok"}


def test_numba_is_tried_in_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.undo()
    assert doctor_checks._numba_fails() == ""
    (tmp_path / "numba.py").write_text("raise ImportError('no llvm here')", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert doctor_checks._numba_fails() == "ImportError: no llvm here"


@pytest.mark.parametrize("there", [True, False])
def test_optional_parts(capsys: Output, monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    name = "numpy" if there else "never-was-there"
    monkeypatch.setattr(doctor_checks, "requires", lambda _: [f'{name}>=1; extra == "plots"'])
    status, found = doctor(capsys)
    (plots,) = found["plots"]
    assert (status, plots["status"]) == (0, "ok" if there else "missing")
    assert plots["lines"] == ([] if there else ["pip install never-was-there"])


def test_caches(capsys: Output, tmp_path: Path) -> None:
    assert "none is compiled yet" in doctor(capsys)[1]["kernels"][0]["what"]
    kernels, references = (
        tmp_path / "cache" / name for name in (f"kernels/{quantrecipe.__version__}", "references")
    )
    (kernels / "a.bin").write_bytes(bytes(2048))
    references.mkdir()
    (references / "b.reference").write_bytes(bytes(1 << 20))
    blocks = tmp_path / "cache/hub/owner/commit/name.blocks"
    (blocks / "key").mkdir(parents=True)
    for path in (blocks / "head", blocks / "key/000000"):
        path.write_bytes(bytes(1 << 19))
    _, found = doctor(capsys)
    assert found["kernels"][0]["what"] == "1 compiled, 2.00 KiB"
    assert found["kernels"][0]["facts"] == {
        "folder": str(kernels),
        "writable": True,
        "compiled": 1,
        "nbytes": 2048,
    }
    assert found["references"][0]["what"] == "1 kept by eval, 1.00 MiB; may be deleted"
    assert found["hub"][0]["what"] == "2 files of models on the hub, 1.00 MiB; may be deleted"
    assert found["hub"][0]["facts"]["folder"] == str(tmp_path / "cache/hub")


@pytest.mark.skipif(sys.platform == "win32", reason="rights are those of Unix")
def test_a_cache_that_others_may_write_to(capsys: Output, tmp_path: Path) -> None:
    folder = tmp_path / f"cache/kernels/{quantrecipe.__version__}"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    status, found = doctor(capsys)
    assert (status, found["kernels"][0]["status"]) == (0, "note")
    assert found["kernels"][0]["facts"]["writable"] is False
    assert ": kernels are compiled in every run" in found["kernels"][0]["what"]


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that carries two kernels for this processor, and three for others."""
    monkeypatch.setattr(machine_code, "SHIPPED", tmp_path / "shipped")
    monkeypatch.setattr(machine_code, "cpu_level", lambda: "x86-64-v3")
    for name in ("x86-64-v3/a.o", "x86-64-v3/b.o", "x86-64-v4/a.o", "x86-64-v4/b.o", "x86-64-v4/c.o"):
        path = tmp_path / "shipped" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(1024))
    return tmp_path / "shipped/x86-64-v3"


def test_kernels_that_came_with_the_package(
    capsys: Output, shipped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container: the user's own folder matters to plugins alone."""
    said = "2 for x86-64-v3 came with the package, 2.00 KiB: only those of plugins are compiled"
    carried, own = doctor(capsys)[1]["kernels"]
    assert (carried["status"], carried["what"], carried["lines"]) == ("ok", said, [str(shipped)])
    assert carried["facts"] == {
        "folder": str(shipped),
        "level": "x86-64-v3",
        "shipped": 2,
        "nbytes": 2048,
    }
    assert own["what"] == "no other is compiled yet"
    monkeypatch.setenv("QUANTRECIPE_CACHE_DIR", str(shipped / "a.o"))
    carried, own = doctor(capsys)[1]["kernels"]
    assert carried["what"] == said
    assert own["status"] == "note"
    assert own["what"].endswith(": kernels of plugins are compiled in every run")
    monkeypatch.delenv("QUANTRECIPE_CACHE_DIR")
    monkeypatch.setattr(
        "quantrecipe.core.cache.cache_folder", lambda: Path("~nobody-has-this-name").expanduser()
    )
    carried, own = doctor(capsys)[1]["kernels"]
    assert carried["what"] == said
    assert own["status"] == "note"
    assert own["what"].endswith(": kernels of plugins are compiled in every run")


@pytest.mark.parametrize("level", ["arm64", ""])
def test_kernels_for_other_processors_are_none(
    level: str, capsys: Output, shipped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shipped.is_dir()
    monkeypatch.setattr(machine_code, "cpu_level", lambda: level)
    (own,) = doctor(capsys)[1]["kernels"]
    assert own["what"].startswith("none is compiled yet")


def test_the_machine(capsys: Output, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quantrecipe.memory.machine.detect_machine", lambda: MACHINE)
    _, found = doctor(capsys)
    (machine,) = found["machine"]
    assert "16.00 GiB of memory (12.00 GiB free)" in machine["what"]
    here, temporary = found["disk"]
    assert here["facts"]["place"] == str(tmp_path)
    assert here["facts"]["free"] > 0
    assert temporary["what"].startswith("temporary files: ")


def test_reads_well_at_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal sentences are wrapped under each other; lines to copy are never broken."""
    monkeypatch.setattr(doctor_checks, "_numba_fails", lambda: "a long reason of several words " * 5)
    shown = show(["doctor"], width=80)
    assert shown.status == 1
    said = shown.out.splitlines()
    begins = [line[:20] for line in said]
    assert "broken  packages    " in begins
    assert begins.count(" " * 20) >= 2
    copied = [line for line in said if line.startswith("          ") and not line.startswith(" " * 20)]
    assert f"          {Path(quantrecipe.__file__).parent}" in copied
    assert any(line.endswith("whl/cpu") for line in copied)
    assert all(len(line) <= 80 for line in said if line not in copied)


def test_piped_each_finding_is_a_line(capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_checks, "_numba_fails", lambda: "a long reason of several words " * 5)
    assert main(["--no-plugins", "doctor"]) == 1
    said = capsys.readouterr().out
    assert "a long reason of several words " * 4 in said
