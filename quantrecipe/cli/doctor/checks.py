"""What `doctor` looks at: what is installed, the engine, the caches and the machine. Each check gives its findings.

Nothing that may fail, crash or take long runs in this process: the engine is asked in one of its own, and so is numba.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import quantrecipe
from quantrecipe.cli.units import bytes_text
from quantrecipe.errors import QuantrecipeError

if TYPE_CHECKING:
    from packaging.requirements import Requirement

    from quantrecipe.memory.machine import Machine

__all__ = [
    "Finding",
    "check_caches",
    "check_engine",
    "check_machine",
    "check_packages",
    "check_parts",
    "check_plugins",
    "checked",
]

# Extras that users may want, and what they are for; the engine, which is one too, is a check of its own.
_OPTIONAL = {
    "plots": "pictures: eval --plot, sensitivity --report, imatrix show --plot",
    "studio": "a page on which one slides a size: studio",
    "parquet": "texts in Parquet files: --text data.parquet",
}

_PATIENCE = 60  # seconds for numba to be imported: from a slow disk it takes some

Status = Literal["ok", "note", "missing", "broken"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    status: "broken" is what ought to work and doesn't; "missing" what may be added; "note" what is worth knowing
    what:   a sentence
    lines:  what to type, or a path, each on a line of its own
    facts:  the same for machines
    """

    name: str
    status: Status
    what: str
    lines: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)


def checked(name: str, check: Callable[[], list[Finding]]) -> list[Finding]:
    """What a check finds; where a package that it needs is missing, that it couldn't look."""
    try:
        return check()
    except ImportError as error:
        return [Finding(name, "broken", f"can't be looked at: {error}")]


def check_packages() -> list[Finding]:
    """quantrecipe itself, and what it can't do without: there, new enough, and numba able to start."""
    from packaging.requirements import Requirement

    system = f"{platform.system()} {platform.machine()}"
    python = platform.python_version()
    home = str(Path(quantrecipe.__file__).parent)
    facts = {"version": quantrecipe.__version__, "python": python, "system": system, "folder": home}
    what = f"{quantrecipe.__version__}, on Python {python}, {system}"
    findings = [Finding("quantrecipe", "ok", what, lines=(home,), facts=facts)]
    required = [Requirement(text) for text in _requirements() if "extra ==" not in text]
    found = {requirement.name: _version(requirement.name) for requirement in required}
    wrong = [
        f"{requirement.name} {found[requirement.name] or 'is missing'}"
        for requirement in required
        if not _satisfied(requirement, found[requirement.name])
    ]
    remedy = ("pip install --upgrade --force-reinstall quantrecipe",)
    if wrong:
        what = f"too old or missing: {', '.join(wrong)}"
        findings.append(Finding("packages", "broken", what, lines=remedy, facts=found))
    elif said := _numba_fails():
        what = f"numba, which compiles the kernels, can't be imported: {said}"
        findings.append(Finding("packages", "broken", what, lines=remedy, facts=found))
    else:
        shown = ", ".join(f"{name} {found[name]}" for name in ("numpy", "numba", "scipy") if found.get(name))
        findings.append(Finding("packages", "ok", shown or "there", facts=found))
    return findings


def check_plugins(*, plugins: bool) -> list[Finding]:
    """Those that are installed; each that can't be loaded is a finding of its own."""
    from quantrecipe.registry import load_registry

    registry = load_registry(plugins=plugins)
    good = [f"{plugin.name} {plugin.version}".strip() for plugin in registry.plugins if plugin.status == "ok"]
    findings = [
        Finding("plugins", "ok", ", ".join(good) or "none", facts={"loaded": good}),
    ]
    findings += [
        Finding(
            "plugins",
            "broken",
            f"{plugin.source} can't be loaded: {plugin.cause}",
            lines=("quantrecipe plugins",),
            facts={"plugin": plugin.name, "cause": plugin.cause},
        )
        for plugin in registry.failed
    ]
    return findings


def check_engine(engine: Path | None, machine: Machine) -> list[Finding]:
    """Looks for the llama.cpp that runs models: which one it is, where it is from, and what it computes on."""
    from quantrecipe.engine import engine_facts, find_engine

    try:
        found = find_engine(engine)
    except QuantrecipeError as error:
        problem = error.problems[0]
        # What is named and isn't there is a mistake; to have no engine is none.
        status: Status = "missing" if problem.choices else "broken"
        what = str(problem).split("\n", 1)[0]
        if status == "missing":
            what = "there is none; eval, sensitivity --text, fit --text and fit --verify need it. To get it:"
        return [Finding("engine", status, what, lines=problem.choices)]
    facts: dict[str, Any] = {"source": found.source, "library": str(found.library)}
    try:
        said = engine_facts(found)
    except QuantrecipeError as error:
        return [Finding("engine", "broken", str(error), facts=facts)]
    devices = [asdict(device) for device in said.devices]
    findings = [
        Finding(
            "engine",
            "ok",
            f"{said.label}, from {found.source}" if found.source not in said.label else said.label,
            lines=(
                str(found.library),
                *(_device(it.name, it.total, it.free, it.description) for it in said.devices),
            ),
            facts=facts | {"version": said.version, "devices": devices},
        )
    ]
    # Releases bring backends for what a machine may have: models run without them, on what is left.
    findings += [Finding("engine", "note", f"can't load {reason}") for reason in said.refused]
    if said.sealed:
        findings.append(
            Finding("engine", "note", f"probes load a file each, which takes longer: {said.sealed}")
        )
    if machine.gpus and all(device.is_cpu for device in said.devices):
        what = f"this machine has {machine.gpus[0].name}, which this llama.cpp can't use"
        findings.append(Finding("engine", "note", what, lines=("quantrecipe help engine",)))
    return findings


def check_caches() -> list[Finding]:
    """Compiled kernels, references, and what came from elsewhere: where they are kept, and how much there is."""
    from quantrecipe.core.cache import cache_folder, kernel_folder

    findings = _shipped_kernels()
    which = "kernels of plugins" if findings else "kernels"
    try:
        folder = cache_folder()
    except RuntimeError as error:  # a user without a home
        what = f"there is no folder for them ({error}): {which} are compiled in every run"
        return [*findings, Finding("kernels", "note", what, lines=("QUANTRECIPE_CACHE_DIR=FOLDER",))]
    kernels = kernel_folder(quantrecipe.__version__)
    if kernels is None:
        what = f"can't be kept, since you can't write to the folder, or others can: {which} are compiled in every run"
        place = str(folder / "kernels" / quantrecipe.__version__)
        lines = (place, "QUANTRECIPE_CACHE_DIR=FOLDER names another")
        facts = {"folder": place, "writable": False}
        return [*findings, Finding("kernels", "note", what, lines=lines, facts=facts)]
    count, nbytes = _content(kernels)
    if count:
        what = f"{count} compiled, {bytes_text(nbytes)}"
    elif findings:
        what = "no other is compiled yet"
    else:
        what = "none is compiled yet; the first run compiles those that it needs, for a minute at most"
    facts = {"folder": str(kernels), "writable": True, "compiled": count, "nbytes": nbytes}
    findings.append(Finding("kernels", "ok", what, lines=(str(kernels),), facts=facts))
    kinds = {
        "references": "kept by eval",
        "hub": "files of models on the hub",
        "objects": "files of models in object stores",
    }
    for name, kept in kinds.items():
        count, nbytes = _content(folder / name)
        if count:
            what = f"{count} {kept}, {bytes_text(nbytes)}; may be deleted"
            place = str(folder / name)
            facts = {"folder": place, "count": count, "nbytes": nbytes}
            findings.append(Finding(name, "ok", what, lines=(place,), facts=facts))
    return findings


def _shipped_kernels() -> list[Finding]:
    """Those that the package carries for processors like this one; nothing where it carries none."""
    from quantrecipe.core.machine_code import SHIPPED, cpu_level

    level = cpu_level() if SHIPPED.is_dir() else ""
    count, nbytes = _content(SHIPPED / level) if level else (0, 0)
    if not count:
        return []
    what = (
        f"{count} for {level} came with the package, {bytes_text(nbytes)}: only those of plugins are compiled"
    )
    facts = {"folder": str(SHIPPED / level), "level": level, "shipped": count, "nbytes": nbytes}
    return [Finding("kernels", "ok", what, lines=(str(SHIPPED / level),), facts=facts)]


def check_machine(machine: Machine) -> list[Finding]:
    """Looks at processors, memory and GPUs, and at the room on the disks that are written to."""
    from quantrecipe.core.processors import usable_processors

    cores = usable_processors()
    what = (
        f"{cores} processors, {bytes_text(machine.ram_total)} of memory ({bytes_text(machine.ram_free)} free)"
    )
    facts: dict[str, Any] = {"cores": cores, "ram_total": machine.ram_total, "ram_free": machine.ram_free}
    gpus = [asdict(gpu) for gpu in machine.gpus]
    lines = tuple(_device(gpu.name, gpu.total, gpu.free) for gpu in machine.gpus)
    findings = [Finding("machine", "ok", what, lines=lines, facts=facts | {"gpus": gpus})]
    for name, place in {"here": Path.cwd(), "temporary files": Path(tempfile.gettempdir())}.items():
        free = shutil.disk_usage(place).free
        writable = os.access(place, os.W_OK)
        what = f"{name}: {bytes_text(free)} free{'' if writable else ', and not yours to write to'}"
        facts = {"place": str(place), "free": free, "writable": writable}
        status: Status = "ok" if writable else "note"
        findings.append(Finding("disk", status, what, lines=(str(place),), facts=facts))
    return findings


def check_parts() -> list[Finding]:
    """Looks for optional packages; each that is missing comes with the line that installs it."""
    from packaging.requirements import Requirement

    findings = []
    for extra, purpose in _OPTIONAL.items():
        marker = re.compile(rf"""extra == ['"]{extra}['"]""")
        required = [Requirement(text.split(";")[0]) for text in _requirements() if marker.search(text)]
        found = {requirement.name: _version(requirement.name) for requirement in required}
        there = all(_satisfied(requirement, found[requirement.name]) for requirement in required)
        missing = [requirement.name for requirement in required]
        names = ", ".join(f"{name} {number or ''}".strip() for name, number in found.items())
        findings.append(
            Finding(
                extra,
                "ok" if there else "missing",
                names if there else f"{names}, for {purpose}",
                lines=() if there else (f"pip install {' '.join(missing)}",),
                facts=dict(found),
            )
        )
    return findings


def _requirements() -> Sequence[str]:
    """What the installed package requires; nothing where it runs from its source alone."""
    try:
        return requires("quantrecipe") or ()
    except PackageNotFoundError:
        return ()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _satisfied(requirement: Requirement, found: str | None) -> bool:
    return found is not None and requirement.specifier.contains(found, prereleases=True)


def _numba_fails() -> str:
    """The reason why numba can't be imported; "" where it can. A NumPy that is too new for it is the usual one."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", "import numba"],
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"it isn't there after {_PATIENCE} seconds"
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return "" if done.returncode == 0 else lines[-1] if lines else f"status {done.returncode}"


def _content(folder: Path) -> tuple[int, int]:
    """How many files a folder has, at any depth, and their bytes; zeros where there is no such folder."""
    count = nbytes = 0
    for inside, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # it has just gone
                nbytes += os.lstat(Path(inside, name)).st_size
                count += 1
    return count, nbytes


def _device(name: str, total: int, free: int, description: str = "") -> str:
    memory = f", {bytes_text(total)} of memory ({bytes_text(free)} free)" if total else ""
    return f"{name}{f' ({description})' if description and description != name else ''}{memory}"
