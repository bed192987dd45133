"""Comments that allow findings, with reasons; QR103 about those that allow nothing."""

from pathlib import Path

import pytest
from support.linting import found, given, report

LOW = """\
rules:
  - tensors: head
    type: Q4_K          {end}
    why: small
  {before}
  - tensors: attn_v
    type: Q2_K
    why: small
"""


def test_behind_a_line_of_the_rule(tmp_path: Path) -> None:
    text = LOW.format(end="# allow QR302: measured", before="# next")
    assert found(tmp_path, text) == [("QR302", "advice", 8)]


def test_before_the_rule(tmp_path: Path) -> None:
    text = LOW.format(end="", before="# allow QR302: measured")
    assert found(tmp_path, text) == [("QR302", "advice", 4)]


def test_one_of_several_codes(tmp_path: Path) -> None:
    text = LOW.format(end="# allow QR302, QR206: measured", before="#")
    assert found(tmp_path, text) == [("QR103", "warning", 5), ("QR302", "advice", 8)]


@pytest.mark.parametrize("comment", ["# allow QR302", "# allow QR302:", "# allow QR302:   "])
def test_a_reason_is_demanded(tmp_path: Path, comment: str) -> None:
    codes = [code for code, _, _ in found(tmp_path, LOW.format(end=comment, before="#"))]
    assert codes == ["QR302", "QR103", "QR302"]


def test_codes_that_there_aren_t(tmp_path: Path) -> None:
    findings = report(tmp_path, LOW.format(end="# allow QR999: x", before="#")).findings
    assert "there is no code QR999 to allow" in [it.problem.what for it in findings]


def test_only_models_of_all_kinds_can_tell_that_nothing_is_there_to_allow(tmp_path: Path) -> None:
    text = "rules:\n  - {tensors: ffn_down, type: Q6_K, why: a}  # allow QR302: was lower once\n"
    assert found(tmp_path, text) == [("QR103", "warning", 4)]
    assert found(tmp_path, text, given("shapes/qwen3-0.6b")) == []


def test_errors_can_t_be_allowed(tmp_path: Path) -> None:
    text = "rules:\n  - {tensors: ffn_up_exps, type: Q6_K, why: a}  # allow QR202: later\n"
    assert found(tmp_path, text, given("shapes/qwen3-0.6b")) == [("QR202", "error", 4)]


def test_the_default_and_the_whole_file(tmp_path: Path) -> None:
    text = "default: IQ2_S  # allow QR302, QR303: an experiment\nimportance: required\n"
    assert found(tmp_path, text) == []


def test_other_comments_are_none(tmp_path: Path) -> None:
    assert found(tmp_path, "# we allow QR302 nowhere\ndefault: Q8_0\n") == []
