"""QR303, QR304: files of few bits."""

from pathlib import Path

from support.linting import given, reference, report, what

LLAMA = reference("shapes/meta-llama-3.1-8b-instruct")
LOW = "importance: required\nextends: llama.cpp/IQ2_XS\n"
THREE = "importance: required\nsummary: {summary}\nextends: llama.cpp/Q3_K_S\n"


def codes(folder: Path, text: str) -> list[str]:
    return [it.code for it in report(folder, text, LLAMA).findings if it.code in ("QR303", "QR304")]


def test_below_q2_k_it_is_for_experiments(tmp_path: Path) -> None:
    assert codes(tmp_path, LOW) == ["QR303"]
    assert codes(tmp_path, "extends: llama.cpp/Q2_K\n") == []
    assert "where llama.cpp/Q2_K has 3.16;" in what(tmp_path, LOW, "QR303", LLAMA)


def test_code_wants_more(tmp_path: Path) -> None:
    assert codes(tmp_path, THREE.format(summary="Code models, small")) == ["QR304"]
    assert codes(tmp_path, THREE.format(summary="Stories, small")) == []
    assert codes(tmp_path, "summary: Code models\nextends: llama.cpp/IQ3_M\nimportance: required\n") == []
    assert codes(tmp_path, "summary: Code models\nextends: llama.cpp/Q4_K_M\n") == []


def test_a_model_on_which_it_isn_t_low_silences_it(tmp_path: Path) -> None:
    text = "rules:\n  - {tensors: '*', when: n_expert > 0, type: Q2_K, why: a}\ndefault: Q8_0\n"
    models = [*given("shapes/qwen3-30b-a3b"), *given("shapes/qwen3-0.6b")]
    found = [it.code for it in report(tmp_path, text, models).findings]
    assert "QR303" not in found
