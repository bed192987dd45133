"""QR210 and QR211: mixes that reach little of a model, and labels that the types contradict."""

from pathlib import Path

from support.linting import found, given, reference, small_model, what

from quantrecipe.lint import GivenModel
from quantrecipe.model.shapes import open_shapes


def without_weight(folder: Path) -> GivenModel:
    """A model half of whose matrices have no `.weight`."""
    model = small_model(folder)
    path = folder / model.name
    text = (
        path.read_text(encoding="utf-8")
        .replace("ffn_up.weight", "ffn_up")
        .replace("ffn_down.weight", "ffn_down")
    )
    path.write_text(text, encoding="utf-8")
    return GivenModel(name=model.name, model=open_shapes(path))


def test_much_of_a_given_model_is_left_as_it_is(tmp_path: Path) -> None:
    models = [without_weight(tmp_path)]
    assert ("QR210", "warning", 1) in found(tmp_path, "default: Q4_K\n", models)
    said = what(tmp_path, "default: Q4_K\n", "QR210", models)
    assert said.startswith(
        "on small-4-256.json, 40 % of the weights in matrices aren't quantized: ffn_down (4)"
    )
    assert not any(
        code == "QR210" for code, *_ in found(tmp_path, "default: Q4_K\n", [small_model(tmp_path)])
    )
    assert ("QR210", "warning", 1) in found(tmp_path, "default: Q8_0\n", [small_model(tmp_path, cols=33)])


def test_a_label_of_the_recipe_s_own(tmp_path: Path) -> None:
    text = "default: Q6_K\nfile_type: Q4_K_M\n"
    assert found(tmp_path, text, [small_model(tmp_path)]) == [("QR211", "warning", 4)]
    assert found(tmp_path, text, reference()) == [("QR211", "warning", 4)]  # untrue on every one, told once
    assert "100 % of the weights in layers are Q6_K" in what(
        tmp_path, text, "QR211", given("shapes/qwen3-0.6b")
    )
    assert found(tmp_path, text.replace("Q4_K_M", "Q6_K"), reference()) == []
    assert found(tmp_path, "default: Q6_K\n", reference()) == []


def test_one_that_is_true_of_some_models_is_let_pass(tmp_path: Path) -> None:
    text = "default: Q4_K\nfile_type: Q4_K_M\nrules:\n  - {tensors: ffn_*_exps, type: IQ4_XS, why: a}\n"
    assert [code for code, *_ in found(tmp_path, text, reference()) if code == "QR211"] == []
    experts = given("shapes/qwen3-30b-a3b")
    assert [code for code, *_ in found(tmp_path, text, experts) if code == "QR211"] == ["QR211"]


def test_a_label_that_is_inherited_is_advice(tmp_path: Path) -> None:
    text = "extends: llama.cpp/Q4_K_M\nrules:\n  - {tensors: '*', type: Q6_K, why: a}\n"
    (finding,) = [it for it in found(tmp_path, text, given("shapes/qwen3-0.6b")) if it[0] == "QR211"]
    assert finding == ("QR211", "advice", 1)
