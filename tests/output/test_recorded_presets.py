"""Folders of many architectures by llama-quantize's presets, byte for byte what it makes of the converter's files."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from support.recorded_architectures import NAMES, inexact, read_recorded, write_recorded

from quantrecipe.cli import main

OTHERWISE = {"deepseek4", "kimi-linear", "llama3-nvfp4"}
"""What the converter makes of these folders differs from ours, for the reasons in test_recorded.py."""


def recorded(name: str) -> dict[str, str]:
    return read_recorded(name, "meta.json").get("llama_quantize", {})


EXACT = [
    name
    for name in NAMES
    if recorded(name)
    and not inexact(name)
    and not read_recorded(name, "meta.json").get("pre_rules_differ")
    and name not in OTHERWISE
]
SAMPLE = EXACT[::8]


def make(folder: Path, preset: str) -> str:
    path = folder.parent / f"{preset}.gguf"
    assert main(["apply", f"llama.cpp/{preset}", str(folder), "-o", str(path), "--no-provenance"]) == 0
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("name", SAMPLE)
def test_some(name: str, tmp_path: Path) -> None:
    assert make(write_recorded(name, tmp_path), "Q4_K_M") == recorded(name)["Q4_K_M"]


@pytest.mark.slow
@pytest.mark.parametrize("name", EXACT)
def test_all(name: str, tmp_path: Path) -> None:
    folder = write_recorded(name, tmp_path)
    assert {preset: make(folder, preset) for preset in recorded(name)} == recorded(name)


def test_most_of_them_are_held() -> None:
    assert len(EXACT) >= 60
