"""QR401, QR402, QR403: what the target runs."""

from pathlib import Path

import pytest
from support.linting import TARGETS, reference, report, what

from quantrecipe.recipe.target import DEVICES, ENGINES
from quantrecipe.targets import DEVICES as TABLE_DEVICES

ONE = reference("shapes/qwen3-14b")
TEXT = """\
target: {target}
importance: required
rules:
  - tensors: ffn_down
    type: {type}
    why: a
"""


def found(folder: Path, target: str, type_: str) -> list[tuple[str, str, int | None]]:
    findings = report(folder, TEXT.format(target=target, type=type_), ONE).findings
    return [(it.code, it.severity, it.problem.line) for it in findings]


@pytest.mark.parametrize(
    ("target", "type_", "expected"),
    [
        ("{engine: llama.cpp, device: cuda}", "IQ3_S", []),
        ("{engine: llama.cpp, device: cpu}", "IQ3_S", [("QR402", "warning", 6)]),
        ("{engine: llama.cpp, device: metal, build: b7000}", "IQ4_XS", [("QR402", "warning", 6)]),
        ("{engine: llama.cpp, build: b2000, device: cuda}", "IQ4_XS", [("QR401", "error", 6)]),
        ("{engine: ollama}", "TQ2_0", [("QR401", "error", 6)]),
        ("{engine: llama.cpp, build: b5000}", "MXFP4", [("QR403", "advice", 6)]),
        ("{engine: llama.cpp, build: b999999}", "Q6_K", [("QR403", "advice", 3)]),
        ("{engine: llama.cpp}", "Q6_K", []),
    ],
)
def test_targets(tmp_path: Path, target: str, type_: str, expected: list[tuple[str, str, int]]) -> None:
    assert found(tmp_path, target, type_) == expected


def test_what_would_run_instead_is_told(tmp_path: Path) -> None:
    text = TEXT.format(target="{engine: ollama}", type="TQ2_0")
    assert "TQ2_0 can't run with ollama: ollama's GGUF reader" in what(tmp_path, text, "QR401", ONE)
    assert what(tmp_path, text, "QR401", ONE).endswith("run well there")


def test_inherited_types_are_told_at_the_extends(tmp_path: Path) -> None:
    text = "target: {engine: llama.cpp, device: cpu}\nextends: llama.cpp/IQ4_XS\n"
    (finding,) = (it for it in report(tmp_path, text, ONE).findings if it.code == "QR402")
    assert finding.problem.line == 4
    assert finding.problem.what.startswith("IQ4_XS runs slowly with llama.cpp on cpu")


def test_an_odd_build_is_an_error(tmp_path: Path) -> None:
    assert found(tmp_path, "{engine: llama.cpp, build: latest}", "Q6_K") == [("QR001", "error", 3)]


def test_the_language_and_the_table_know_the_same_names() -> None:
    assert set(ENGINES) == set(TARGETS.engines)
    assert set(DEVICES) == set(TABLE_DEVICES)
