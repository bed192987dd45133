"""Commands that run llama.cpp, killed at random: nothing is lost, and the same command ends where one in peace does.

`tests/faults/` has many more moments, with a stand-in for llama.cpp; and test_calibration.py those of `imatrix`.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.llama,
    pytest.mark.skipif(os.name != "posix", reason="processes are killed"),
]

ROOT = Path(__file__).parents[2]
MOMENTS = int(os.environ.get("QUANTRECIPE_MOMENTS", "2"))
"""For each command."""

COMMANDS = {
    "sensitivity": (
        ["--types", "Q4_K,Q8_0", "--probes", "4", "-o", "out.jsonl"],
        "out.jsonl",
        "out.jsonl.journal",
    ),
    "fit": (
        [
            "--bpw",
            "6",
            "--types",
            "Q4_K,Q8_0",
            "--evaluations",
            "4",
            "--sensitivity",
            "s.jsonl",
            "-o",
            "out.yaml",
        ],
        "out.yaml",
        "tiny-code.evaluations.jsonl",
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text, and what `fit` has measured before."""
    folder = tmp_path_factory.mktemp("killed")
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("quantrecipe/plan/*.py")))
    (folder / "text.txt").write_text(text[:24_000], encoding="utf-8")
    measured = ["--types", "Q4_K,Q8_0", "--analysis", "error", "-o", "s.jsonl"]
    assert run(folder, "sensitivity", measured, text=False).wait() == 0
    return folder


def run(folder: Path, command: str, options: list[str], *, text: bool = True) -> subprocess.Popen[bytes]:
    model = str(ROOT / "examples/tiny-code")
    read = ["--text", "text.txt"] if text else []
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "quantrecipe",
            "--no-plugins",
            command,
            model,
            *read,
            "--threads",
            "1",
            *options,
        ],
        cwd=folder,
        stdout=subprocess.DEVNULL,
    )


def lines(path: Path) -> set[bytes]:
    """What the journal has of mixes and probes."""
    if not path.exists():
        return set()
    found = path.read_bytes().split(b"\n")[:-1]
    return {
        line.split(b', "disk"')[0]
        for line in found
        if line.startswith((b'{"mix"', b'{"probe"', b'{"tensor"'))
    }


@pytest.mark.parametrize("command", COMMANDS)
def test_the_same_command_goes_on(folder: Path, tmp_path: Path, command: str) -> None:
    options, output, journal = COMMANDS[command]
    peace = tmp_path / "peace"
    shutil.copytree(folder, peace)
    began = time.monotonic()
    assert run(peace, command, options).wait() == 0
    seconds = time.monotonic() - began
    draw, tried = random.Random(command), 0
    for moment in range(MOMENTS):
        here = tmp_path / str(moment)
        shutil.copytree(folder, here)
        noted: set[bytes] = set()
        for _ in range(3):
            process = run(here, command, options)
            try:
                process.wait(draw.uniform(0.2, 1) * seconds)
            except subprocess.TimeoutExpired:
                tried += 1
                process.send_signal(signal.SIGKILL)
                process.wait()
            if (here / output).exists():
                break
            now = lines(here / journal)
            assert noted <= now
            noted = now
        else:
            assert run(here, command, options).wait() == 0
        assert (here / output).read_bytes() == (peace / output).read_bytes()
        assert sorted(it.name for it in here.iterdir()) == sorted(it.name for it in peace.iterdir())
    print(f"{command}: killed {tried} times")  # noqa: T201  # what was tried
    assert tried
