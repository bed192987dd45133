"""Which encoder makes a tensor's bytes, and when the plan leaves it to the format."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.gram_statistics import write_statistics
from support.models import llama_metadata, llama_tensors, write_gguf
from support.recipes import recipe, rule

from quantrecipe.api import Encoder
from quantrecipe.calibration.gram import Grams
from quantrecipe.encoders.feedback.encoder import predicted_damping
from quantrecipe.errors import FormatError, ImportanceError, PlanError
from quantrecipe.model.fingerprint import fingerprint
from quantrecipe.model.model import Model
from quantrecipe.model.open_model import open_model
from quantrecipe.plan.plan import Assignment, Plan
from quantrecipe.plan.statistics import encoder_lines, matrix_of, require_statistics
from quantrecipe.planning import make_plan
from quantrecipe.recipe.recipe import EncoderChoice, Recipe
from quantrecipe.recipe.terms.layers import LayerSet
from quantrecipe.registry import load_registry

REGISTRY = load_registry(plugins=False)
FEEDBACK = EncoderChoice(name="feedback")
Q, DOWN = "blk.0.attn_q.weight", "blk.0.ffn_down.weight"


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return open_model(write_gguf(tmp_path / "m.gguf", llama_tensors(layers=1)))


@pytest.fixture
def grams(tmp_path: Path) -> Grams:
    inputs = {Q: (256, (600,)), DOWN: (512, (600,))}
    return write_statistics(tmp_path, inputs, shared={Q: ("blk.0.attn_k.weight", "blk.0.attn_v.weight")})


def planned(mix: Recipe, model: Model, statistics: Any = None) -> Plan:
    return make_plan(mix, model, registry=REGISTRY, statistics=statistics)


def by_name(plan: Plan) -> dict[str, Assignment]:
    return {a.tensor.name: a for a in plan.assignments}


def encoder_of(a: Assignment) -> Encoder:
    assert a.encoder is not None
    return a.encoder


def test_the_recipe_s_encoder_makes_what_has_statistics(model: Model, grams: Grams) -> None:
    plan = planned(recipe(rule("attn_v", "F16"), default="Q4_K", encoder=FEEDBACK), model, grams)
    found = by_name(plan)
    for name in (Q, DOWN, "blk.0.attn_k.weight"):
        assert encoder_of(found[name]).name == "feedback"
        assert found[name].inputs == name
    assert found[Q].made_of == found["blk.0.attn_k.weight"].made_of != found[DOWN].made_of
    assert found["blk.0.attn_v.weight"].encoder is None  # F16
    assert found["blk.0.attn_norm.weight"].encoder is None  # kept
    assert found["blk.0.ffn_up.weight"].lacking == "there are no statistics of its inputs"
    assert any(
        "each weight is rounded for itself, since there are no statistics" in it for it in plan.warnings
    )


def test_a_rule_s_encoder_goes_before_the_recipe_s(model: Model, grams: Grams) -> None:
    harder = EncoderChoice(name="feedback", options={"damping": 0.5})
    mix = recipe(
        rule("attn_q", "Q4_K", encoder=EncoderChoice(name="plain")),
        rule("ffn_down", "Q4_K", encoder=harder),
        default="Q4_K",
        encoder=FEEDBACK,
    )
    found = by_name(planned(mix, model, grams))
    assert encoder_of(found[Q]).name == "plain"
    assert found[Q].inputs == ""
    assert encoder_of(found[DOWN]).options["damping"] == 0.5
    assert found["blk.0.attn_k.weight"].encoder is not None


def test_layers_that_an_encoder_leaves_out(tmp_path: Path) -> None:
    """By their numbers, or from an end of the model; what lies outside of the layers isn't in them."""
    model = open_model(
        write_gguf(tmp_path / "m.gguf", llama_tensors(layers=3), llama_metadata(block_count=3))
    )
    names = [*(f"blk.{number}.attn_q.weight" for number in range(3)), "output.weight"]
    grams = write_statistics(tmp_path, dict.fromkeys(names, (256, (600,))))
    for layers, left in (("1", {0, 2, None}), ("last 2", {0, None}), ("0-1", {2, None})):
        choice = EncoderChoice(name="feedback", except_layers=LayerSet.parse(layers))
        plan = planned(recipe(default="Q4_K", encoder=choice), model, grams)
        assert {a.tensor.layer for a in plan.assignments if a.encoder is not None} == left
        assert not any(a.lacking for a in plan.assignments if a.tensor.name in names)


def test_the_encoding_depends_on_all_that_makes_the_bytes(model: Model, grams: Grams, tmp_path: Path) -> None:
    other = write_statistics(tmp_path, {Q: (256, (600,))}, seed=1)
    plain = recipe(default="Q4_K")
    wanted = recipe(default="Q4_K", encoder=FEEDBACK)
    harder = recipe(default="Q4_K", encoder=EncoderChoice(name="feedback", options={"rounds": 5}))
    digests = {
        by_name(plan)[Q].encoding
        for plan in (
            planned(plain, model),
            planned(wanted, model, grams),
            planned(wanted, model, other),
            planned(harder, model, grams),
        )
    }
    assert len(digests) == 4
    assert by_name(planned(plain, model, grams))[Q].encoding == by_name(planned(plain, model))[Q].encoding


def test_what_was_used_is_recorded(model: Model, grams: Grams) -> None:
    said = planned(recipe(default="Q4_K", encoder=FEEDBACK), model, grams).metadata
    assert said["quantrecipe.encoders"].decode() == [
        '{"name": "feedback", "options": {"by": "mean", "damping": "auto", "rounds": 2}, '
        f'"settled": {{"by": ["column", "column"], "damping": '
        f'[{predicted_damping(600, 256)}, {predicted_damping(600, 512)}]}}, "version": 3}}'
    ]
    assert said["quantrecipe.statistics.digest"].decode() == grams.digest
    harder = EncoderChoice(name="feedback", options={"damping": 0.5})
    exact = planned(recipe(default="Q4_K", encoder=harder), model, grams).metadata
    assert exact["quantrecipe.encoders"].decode() == [
        '{"name": "feedback", "options": {"by": "mean", "damping": 0.5, "rounds": 2}, "version": 3}'
    ]
    without = planned(recipe(default="Q4_K"), model, grams).metadata
    ours = {"quantrecipe.encoders", "quantrecipe.statistics.digest", "quantrecipe.encoders.remarked"}
    assert ours <= said.keys()
    assert not ours & without.keys()


def test_too_few_tokens_are_no_statistics(model: Model, tmp_path: Path) -> None:
    grams = write_statistics(tmp_path, {Q: (256, (255,)), DOWN: (512, (512,))})
    plan = planned(recipe(default="Q4_K", encoder=FEEDBACK), model, grams)
    found = by_name(plan)
    assert found[Q].encoder is None
    assert found[Q].lacking == "its statistics are of 255 tokens, and it has 256 columns"
    assert found[DOWN].encoder is not None
    assert any("blk.0.attn_q.weight" in it and "255 tokens" in it for it in plan.warnings)


@pytest.mark.parametrize(
    ("options", "numbers", "plain"), [({}, [0, None, 2, 3], 1), ({"damping": 0.01}, [0, None, None, 3], 2)]
)
def test_experts_count_by_themselves(
    options: dict[str, Any], numbers: list[int | None], plain: int, tmp_path: Path
) -> None:
    """With the damping that is predicted, fewer tokens than columns are of use, too; with a number they aren't."""
    model = open_model(write_gguf(tmp_path / "m.gguf", llama_tensors(layers=1, experts=4)))
    up = "blk.0.ffn_up_exps.weight"
    grams = write_statistics(tmp_path, {up: (256, (600, 100, 200, 256))})
    choice = EncoderChoice(name="feedback", options=options)
    plan = planned(recipe(default="Q4_K", encoder=choice), model, grams)
    encoder = encoder_of(by_name(plan)[up])
    assert [matrix_of(grams.entry(up), expert, encoder) for expert in range(4)] == numbers
    begin = "experts got fewer tokens than they have columns, and"
    assert any(
        f"{up}: {plain} {begin} each of their weights is rounded for itself" in it for it in plan.warnings
    ) and any(f"{up}: 1 {begin} their statistics are trusted little" in it for it in plan.warnings) is (
        plain == 1
    )
    shared = write_statistics(tmp_path, {up: (256, (600,))}, seed=1)
    assert [matrix_of(shared.entry(up), expert, encoder) for expert in range(4)] == [0, 0, 0, 0]
    few = write_statistics(tmp_path, {up: (256, (200,))}, seed=2)
    assert matrix_of(few.entry(up), 0, encoder) is None


def test_no_expert_with_enough_tokens_is_no_statistics(tmp_path: Path) -> None:
    model = open_model(write_gguf(tmp_path / "m.gguf", llama_tensors(layers=1, experts=2)))
    up = "blk.0.ffn_up_exps.weight"
    grams = write_statistics(tmp_path, {up: (256, (100, 127))})
    found = by_name(planned(recipe(default="Q4_K", encoder=FEEDBACK), model, grams))
    assert (found[up].encoder, found[up].lacking) == (
        None,
        "its statistics are of 127 tokens, and it has 256 columns",
    )


def test_each_expert_has_the_damping_of_its_own_tokens(tmp_path: Path) -> None:
    model = open_model(write_gguf(tmp_path / "m.gguf", llama_tensors(layers=1, experts=3)))
    up = "blk.0.ffn_up_exps.weight"
    grams = write_statistics(tmp_path, {up: (256, (30_000, 100, 2600))})
    plan = planned(recipe(default="Q4_K", encoder=FEEDBACK), model, grams)
    each = predicted_damping(30_000, 256), None, predicted_damping(2600, 256)
    assert by_name(plan)[up].settled == {"damping": each, "by": ("column", None, "column")}
    (line,) = encoder_lines(plan)
    assert line.endswith(f"for each column; by column; damping {each[0]:g} to {each[2]:g}")
    shown = {it["name"]: it["encoder_settled"] for it in plan.to_json()["tensors"]}
    assert shown[up] == {"damping": list(each), "by": ["column", None, "column"]}
    assert shown["blk.0.attn_q.weight"] == {}
    shared = write_statistics(tmp_path, {up: (256, (5000,))}, seed=1)
    found = by_name(planned(recipe(default="Q4_K", encoder=FEEDBACK), model, shared))
    assert found[up].settled == {"damping": (predicted_damping(5000, 256),), "by": ("column",)}


def test_the_same_numbers_of_more_tokens_are_another_encoding(model: Model, tmp_path: Path) -> None:
    """Only where the number of tokens decides anything."""
    grams = write_statistics(tmp_path, {Q: (256, (600,))})
    (entry,) = grams.index.inputs
    more = replace(grams, index=replace(grams.index, inputs=(replace(entry, tokens=(30_000,)),)))
    harder = EncoderChoice(name="feedback", options={"damping": 0.5})
    for encoder, same in ((FEEDBACK, False), (harder, True)):
        mix = recipe(default="Q4_K", encoder=encoder)
        first, second = (by_name(planned(mix, model, it))[Q] for it in (grams, more))
        assert (first.encoding == second.encoding, first.made_of == second.made_of) == (same, same)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (
            {Q: (128, (600,))},
            "has 256 columns and 1 matrices, and the statistics .* of 128 columns and 1 matrices",
        ),
        ({Q: (256, (600, 600))}, "of 256 columns and 2 matrices"),
    ],
)
def test_statistics_that_don_t_fit_are_refused(
    inputs: dict[str, Any], message: str, model: Model, tmp_path: Path
) -> None:
    grams = write_statistics(tmp_path, inputs)
    with pytest.raises(PlanError, match=message):
        planned(recipe(default="Q4_K", encoder=FEEDBACK), model, grams)


def test_without_statistics_there_are_sizes_and_no_file(model: Model, grams: Grams) -> None:
    mix = recipe(rule("attn_v", "F16"), default="Q4_K", encoder=FEEDBACK)
    plan = planned(mix, model)
    assert plan.nbytes < planned(mix, model, grams).nbytes < plan.nbytes + 1000  # what is recorded of them
    assert by_name(plan)[Q].lacking == "no statistics are given"
    assert any("needs statistics of the inputs (--statistics FOLDER)" in it for it in plan.warnings)
    with pytest.raises(PlanError, match=r"needs the Gram matrices .* --statistics FOLDER"):
        require_statistics(plan)
    require_statistics(planned(mix, model, grams))
    require_statistics(planned(recipe(default="Q4_K"), model))


def test_statistics_of_another_model_are_refused(model: Model, tmp_path: Path) -> None:
    other = open_model(write_gguf(tmp_path / "o.gguf", llama_tensors(layers=2)))
    mix = recipe(default="Q4_K", encoder=FEEDBACK)
    own = write_statistics(tmp_path, {Q: (256, (600,))}, fingerprint=str(fingerprint(model)))
    assert by_name(planned(mix, model, own))[Q].encoder is not None
    theirs = write_statistics(tmp_path, {Q: (256, (600,))}, fingerprint=str(fingerprint(other)), seed=1)
    with pytest.raises(ImportanceError, match="has Gram matrices of another model than"):
        planned(mix, model, theirs)


def test_a_line_says_what_each_encoder_makes(model: Model, tmp_path: Path) -> None:
    grams = write_statistics(tmp_path, {Q: (256, (512,)), DOWN: (512, (2048,))})
    plain = EncoderChoice(name="plain")
    mix = recipe(rule("attn_k", "Q4_K", encoder=plain), default="Q4_K", encoder=FEEDBACK)
    assert encoder_lines(planned(mix, model, grams)) == [
        "feedback: 2 of 12 tensors, 196,608 weights; statistics of 2 to 4 tokens for each column; "
        f"by column; damping {predicted_damping(2048, 512):g} to {predicted_damping(512, 256):g}",
        "plain: 1 of 12 tensors, 32,768 weights",
    ]
    assert encoder_lines(planned(recipe(default="Q4_K"), model)) == []


def test_companions_have_no_encoder(model: Model, grams: Grams) -> None:
    plan = planned(recipe(rule("attn_q", "NVFP4"), default="F16", encoder=FEEDBACK), model, grams)
    found = by_name(plan)
    assert encoder_of(found[Q]).name == "feedback"
    companion = found["blk.0.attn_q.scale"]
    assert (companion.encoder, companion.inputs, companion.lacking) == (None, "", "")
    assert companion.settled == {}
    assert encoder_lines(plan)[0].startswith("feedback: 1 of 13 tensors, 65,536 weights")


def test_a_stray_option_is_refused(model: Model, grams: Grams) -> None:
    mix = recipe(default="Q4_K", encoder=EncoderChoice(name="feedback", options={"speed": 3}))
    with pytest.raises(FormatError, match="feedback has no option 'speed'"):
        planned(mix, model, grams)
