"""QR208: types that tensors don't accept."""

from pathlib import Path

from support.linting import found, small_model, what

TEXT = """\
{head}
rules:
  - tensors: ffn_down
    type: Q6_K
    why: a
"""


def test_a_fallback_is_advice(tmp_path: Path) -> None:
    model = small_model(tmp_path, cols=96)
    assert found(tmp_path, TEXT.format(head="fallback: chain"), [model]) == [("QR208", "advice", 5)]
    said = what(tmp_path, TEXT.format(head="fallback: chain"), "QR208", [model])
    assert said.startswith(
        "ffn_down can't be Q6_K on small-4-96.json: its 96 columns don't divide into blocks of 256"
    )


def test_where_the_recipe_refuses_them_it_is_an_error(tmp_path: Path) -> None:
    model = small_model(tmp_path, cols=96)
    assert found(tmp_path, TEXT.format(head="fallback: error"), [model]) == [("QR208", "error", 5)]


def test_what_fits_is_fine(tmp_path: Path) -> None:
    assert found(tmp_path, TEXT.format(head="fallback: error"), [small_model(tmp_path)]) == []


def test_reference_models_stand_for_others_whose_rows_differ(tmp_path: Path) -> None:
    assert found(tmp_path, TEXT.format(head="default: Q6_K").replace("Q6_K", "Q8_0")) == []
