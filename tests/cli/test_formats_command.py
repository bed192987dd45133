"""quantrecipe formats."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from quantrecipe import load_registry
from quantrecipe.cli import main

Output = pytest.CaptureFixture[str]
FORMATS = load_registry(plugins=False).formats


def test_lists_every_format_with_its_sizes(capsys: Output) -> None:
    assert main(["--no-plugins", "formats"]) == 0
    lines = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines() if line.strip()}
    for name, fmt in FORMATS.items():
        assert float(lines[name][1]) == fmt.spec.bits_per_weight
        assert str(fmt.spec.block_bytes) in lines[name]
        assert lines[name][-1] == "quantrecipe"


def test_json_has_every_fact(capsys: Output) -> None:
    assert main(["--no-plugins", "formats", "--json"]) == 0
    listed = {fmt["name"]: fmt for fmt in json.loads(capsys.readouterr().out)}
    assert listed.keys() == FORMATS.keys()
    for name, fmt in FORMATS.items():
        for fact in (
            "ggml_type",
            "block",
            "block_bytes",
            "dialect",
            "importance",
            "fallback",
            "version",
            "codec",
        ):
            assert listed[name][fact] == getattr(fmt.spec, fact)


def test_one_format(capsys: Output) -> None:
    assert main(["--no-plugins", "formats", "BF16"]) == 0
    said = capsys.readouterr().out
    assert FORMATS["BF16"].spec.summary in said
    assert main(["--no-plugins", "formats", "BF16", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "BF16"


def test_unknown_format(capsys: Output) -> None:
    assert main(["--no-plugins", "formats", "bf16"]) == 1
    assert (
        capsys.readouterr().err
        == "error: there is no format 'bf16'; did you mean BF16? (names are case-sensitive)\n"
    )


@pytest.mark.slow
def test_compile_fills_the_cache(tmp_path: Path) -> None:
    """In processes of their own: this one has loaded kernels from elsewhere."""
    command = [sys.executable, "-m", "quantrecipe", "--no-plugins", "formats", "BF16", "--compile"]
    found = []
    for _ in range(2):
        environment = os.environ | {"QUANTRECIPE_CACHE_DIR": str(tmp_path)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert "1 format is ready" in done.stdout
        found.append({path.name: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()})
    assert len(found[0]) >= 2
    assert found[1] == found[0]  # nothing was compiled a second time
