"""QR101: rules without a reason."""

from pathlib import Path

from support.linting import found, report

TEXT = """\
extends: llama.cpp/Q4_K_M
rules:
  - tensors: attn_v
    type: Q8_0
  - tensors: head
    type: Q8_0
    why: brackets
"""


def test_a_missing_reason_is_a_warning(tmp_path: Path) -> None:
    assert found(tmp_path, TEXT) == [("QR101", "warning", 5)]


def test_strict_makes_it_an_error(tmp_path: Path) -> None:
    checked = report(tmp_path, TEXT, strict=True)
    assert [(it.code, it.severity) for it in checked.findings] == [("QR101", "error")]
    assert not checked.ok
