"""quantrecipe formats."""

from __future__ import annotations

import json
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


def test_compile_encodes_in_every_format_that_has_a_codec(
    capsys: Output, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = []
    for fmt in FORMATS.values():
        plain = type(fmt).encode

        def encode(self, rows, importance=None, *, out=None, plain=plain):  # type: ignore[no-untyped-def]  # a spy
            used.append(self.spec.name)
            return plain(self, rows[:1], importance)

        if fmt.spec.codec and fmt.spec.block == 1:  # kernels have tests of their own; these need no compiler
            monkeypatch.setattr(type(fmt), "encode", encode)
            assert main(["--no-plugins", "formats", fmt.spec.name, "--compile"]) == 0
            assert "1 formats are ready" in capsys.readouterr().out
    assert set(used) >= {"F32", "F16", "BF16"}
