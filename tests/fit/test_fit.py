"""fit: within the budget, never worse than stock, and written down as rules that say the same."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from support.examples import sampled
from support.models import llama_metadata, llama_tensors, write_gguf

from quantrecipe.errors import ImportanceError, PlanError
from quantrecipe.fit import Fitted, Request, fit
from quantrecipe.fit.offered_types import offered_types
from quantrecipe.fit.open_recipe import Floor
from quantrecipe.fit.request import like_budget
from quantrecipe.fit.stock import MIXES, stock_plan, stock_recipes
from quantrecipe.importance.matrix import Importance
from quantrecipe.importance.provenance import Provenance
from quantrecipe.importance.read_importance import read_importance
from quantrecipe.model.model import Model
from quantrecipe.model.open_model import open_model
from quantrecipe.plan.plan import Plan
from quantrecipe.planning import make_plan
from quantrecipe.recipe.budget import Budget, VramBudget
from quantrecipe.recipe.load import load_recipe_text
from quantrecipe.recipe.origin import Origin
from quantrecipe.recipe.recipe import Recipe
from quantrecipe.recipe.target import Target
from quantrecipe.registry import Registry, load_registry
from quantrecipe.sensitivity.prior import estimate
from quantrecipe.sensitivity.sensitivity import Sensitivity

ROOT = Path(__file__).parents[2]
TINY = ROOT / "examples/tiny-code"
HERE = Origin(file="test", line=0)
NOTHING = Budget(origin=HERE)


@pytest.fixture(scope="module")
def matrix() -> Importance:
    return read_importance(ROOT / "tests/data/imatrix/imatrix.code.gguf")


@cache
def stock() -> Mapping[str, Recipe]:
    """Reading them takes most of the time."""
    return stock_recipes(load_registry(plugins=False))


def fitted(model: Model, registry: Registry, budget: Budget, **rest: object) -> Fitted:
    rest["name"] = "fitted"
    of_fit = ("importance", "importance_of_another_model", "sensitivity")
    known = {key: rest.pop(key) for key in of_fit if key in rest}
    request = Request(budget=budget, **rest)  # type: ignore[arg-type]  # as given
    return fit(model, request, registry, stock=stock(), **known)  # type: ignore[arg-type]  # as given


def types_of(plan: Plan) -> dict[str, str]:
    return {a.tensor.name: a.type for a in plan.assignments}


def again(found: Fitted, model: Model, registry: Registry, importance: Importance | None = None) -> Plan:
    """What the text of the recipe makes of the model."""
    return make_plan(
        load_recipe_text(found.text, registry=registry), model, registry=registry, importance=importance
    )


def test_the_matrix_of_another_model_is_refused(tiny: Model, matrix: Importance, registry: Registry) -> None:
    other = replace(matrix, provenance=Provenance(fingerprint=f"v1:{'0' * 16}:{'0' * 32}"))
    with pytest.raises(ImportanceError, match="of another model"):
        fitted(tiny, registry, replace(NOTHING, bpw=5), importance=other)
    assert fitted(
        tiny, registry, replace(NOTHING, bpw=5), importance=other, importance_of_another_model=True
    ).text


class TestRecipe:
    @pytest.mark.parametrize("bpw", [3.3, 3.9, 4.5, 5.5, 7.0])
    def test_it_plans_to_what_was_chosen(self, tiny: Model, registry: Registry, bpw: float) -> None:
        found = fitted(tiny, registry, replace(NOTHING, bpw=bpw))
        plan = again(found, tiny, registry)
        assert types_of(plan) == types_of(found.fitted_plan)
        assert bpw - 0.05 < plan.bits_per_weight <= bpw
        assert plan.warnings == ()

    @pytest.mark.parametrize("name", sampled(["nvidia-nemotron-3-nano-30b-a3b", "gemma-3-4b-it"]))
    def test_other_architectures(self, registry: Registry, name: str) -> None:
        model = open_model(f"shapes/{name}", registry=registry)
        found = fitted(model, registry, replace(NOTHING, bpw=4.5))
        assert types_of(again(found, model, registry)) == types_of(found.plan)
        assert found.plan.bits_per_weight <= 4.5
        assert found.winner is None

    def test_every_rule_has_its_reason(self, tiny: Model, registry: Registry) -> None:
        found = fitted(tiny, registry, replace(NOTHING, bpw=4.5))
        loaded = load_recipe_text(found.text, registry=registry)
        assert loaded.rules
        for rule in loaded.rules:
            assert re.fullmatch(
                r"loses [\d.e-]+(; \w+ loses [\d.e-]+ (more|less) for [\d.e+]+ \w+ (less|more)){1,2}",
                rule.why,
            )
        assert "# Everything else" in found.text

    def test_what_a_reason_says_is_so(self, tiny: Model, registry: Registry) -> None:
        found = fitted(tiny, registry, replace(NOTHING, bpw=4.5))
        known = estimate(tiny, registry)
        for decision in found.decisions:
            names = [a.tensor.name for a in decision.members]
            loss = sum(known.cost(name, decision.reason.type) or 0.0 for name in names)
            assert decision.reason.loss == pytest.approx(loss)
            for step in (decision.reason.cheaper, decision.reason.better):
                if step is not None:
                    other = sum(known.cost(name, step.type) or 0.0 for name in names)
                    sizes = sum(
                        registry.formats[step.type].spec.tensor_bytes(a.tensor.shape) - a.nbytes
                        for a in decision.members
                    )
                    assert (step.loss, step.nbytes) == (pytest.approx(other - loss), sizes)

    def test_few_rules_say_it(self, registry: Registry) -> None:
        """443 tensors."""
        model = open_model("shapes/qwen3-14b", registry=registry)
        found = fitted(model, registry, replace(NOTHING, bpw=4.5))
        assert len(found.decisions) < 20

    def test_odd_names(self, tiny: Model, registry: Registry) -> None:
        request = Request(name="yes: 1.5 #", budget=replace(NOTHING, bpw=4.5))
        found = fit(tiny, request, registry, stock=stock())
        assert load_recipe_text(found.text, registry=registry).name == "yes: 1.5 #"

    def test_the_target_is_kept(self, tiny: Model, registry: Registry) -> None:
        target = Target(engine="llama.cpp", build="b5000", device="cpu", origin=HERE)
        found = fitted(tiny, registry, replace(NOTHING, bpw=4.5), target=target)
        loaded = load_recipe_text(found.text, registry=registry)
        assert loaded.target is not None
        assert (loaded.target.engine, loaded.target.build, loaded.target.device) == (
            "llama.cpp",
            "b5000",
            "cpu",
        )
        assert not [type_ for type_ in types_of(found.plan).values() if type_.startswith("IQ")]


class TestBudget:
    @pytest.mark.parametrize("size", [1_500_000, 2_000_000, 2_300_001])
    def test_the_file_with_its_recipe_in_it_is_no_larger(
        self, tiny: Model, registry: Registry, size: int
    ) -> None:
        found = fitted(tiny, registry, replace(NOTHING, size=size))
        assert size - 20_000 < again(found, tiny, registry).nbytes <= size

    @pytest.mark.parametrize("name", ["Q2_K", "Q3_K_M", "IQ4_XS", "Q4_K_M", "Q5_K_S", "Q6_K"])
    def test_as_many_bytes_as_a_stock_mix(self, tiny: Model, registry: Registry, name: str) -> None:
        mix = stock_plan(stock()[name], tiny, registry, None, allow_requantize=False)
        found = fitted(tiny, registry, like_budget(mix, NOTHING))
        most = sum(a.nbytes for a in mix.assignments)
        assert most * 0.98 < sum(a.nbytes for a in found.plan.assignments) <= most
        assert name in [mix.name for mix in found.rivals]

    @pytest.mark.slow
    def test_the_gpu_s_memory(self, registry: Registry) -> None:
        model = open_model("shapes/qwen3-14b", registry=registry)
        short = fitted(model, registry, replace(NOTHING, vram=VramBudget(total=12 << 30)))
        long = fitted(model, registry, replace(NOTHING, vram=VramBudget(total=12 << 30, context=32768)))
        assert long.plan.nbytes < short.plan.nbytes < 12 << 30
        assert long.spending.limits[0].used <= 12 << 30

    def test_what_can_t_be_kept(self, tiny: Model, registry: Registry) -> None:
        with pytest.raises(PlanError, match="allow at least"):
            fitted(tiny, registry, replace(NOTHING, size=100_000))


class TestStock:
    @pytest.mark.parametrize("bpw", [2.8, 3.3, 3.9, 4.4, 5.0, 6.0, 7.5])
    def test_never_worse(self, tiny: Model, registry: Registry, matrix: Importance, bpw: float) -> None:
        found = fitted(tiny, registry, replace(NOTHING, bpw=bpw), importance=matrix)
        assert all(mix.bits_per_weight <= bpw for mix in found.rivals)
        for mix in found.rivals:
            assert min(found.loss, found.winner.loss if found.winner else found.loss) <= mix.loss

    def test_where_a_stock_mix_is_better_the_recipe_is_that_mix(
        self, tiny: Model, registry: Registry
    ) -> None:
        """Nobody is given Q4_0 unasked; here it loses nothing."""
        known = estimate(tiny, registry)
        tensors = {
            name: replace(t, losses={**t.losses, "Q4_0": replace(t.losses["Q4_0"], error=1e-9)})
            for name, t in known.tensors.items()
        }
        found = fitted(tiny, registry, replace(NOTHING, bpw=5.1), sensitivity=Sensitivity(tensors=tensors))
        assert found.winner is not None
        assert found.winner.name == "Q4_0"
        assert found.winner.loss < found.loss
        plan = again(found, tiny, registry)
        mix = stock_plan(stock()["Q4_0"], tiny, registry, None, allow_requantize=False)
        assert types_of(plan) == types_of(mix)
        assert "extends: llama.cpp/Q4_0" in found.text

    def test_what_was_asked_for_goes_before_stock(self, tiny: Model, registry: Registry) -> None:
        """A mix that has other types, or less than a floor, or tied tensors apart, is no rival."""
        bad = fitted(tiny, registry, replace(NOTHING, bpw=5.1), types=("Q2_K", "Q8_0"))
        assert bad.winner is None
        assert {mix.name for mix in bad.rivals} <= {"Q8_0"}
        floor = (Floor(tensors="attn_v", type="Q8_0"),)
        assert fitted(tiny, registry, replace(NOTHING, bpw=5.1), floors=floor).rivals == ()
        tie = (("attn_q", "attn_v"),)
        tied = {mix.name for mix in fitted(tiny, registry, replace(NOTHING, bpw=5.1), ties=tie).rivals}
        assert "Q4_0" in tied
        assert "Q4_K_M" not in tied

    def test_every_mix_ships(self, tiny: Model, registry: Registry, matrix: Importance) -> None:
        found = fitted(tiny, registry, replace(NOTHING, bpw=8), importance=matrix)
        missing = set(MIXES) - {mix.name for mix in found.stock}
        assert missing <= {
            "IQ1_S",
            "IQ2_XXS",
            "IQ2_XS",
        }  # which nobody can make without an embedding's importance

    def test_without_importance_some_can_t_be_made(self, tiny: Model, registry: Registry) -> None:
        found = fitted(tiny, registry, replace(NOTHING, bpw=4))
        assert "IQ2_M" not in {mix.name for mix in found.stock}
        assert set(MIXES) == {mix.name for mix in found.stock} | found.left_out.keys()
        assert "needs an importance matrix" in found.left_out["IQ2_M"]


class TestChoices:
    def test_floors(self, tiny: Model, registry: Registry) -> None:
        floors = (Floor(tensors="attn_v", type="Q8_0"), Floor(tensors="ffn_*", type="Q4_K"))
        found = fitted(tiny, registry, replace(NOTHING, bpw=4.7), floors=floors)
        bits = {(a.tensor.role, a.bits_per_weight) for a in found.plan.assignments}
        assert {b for role, b in bits if role == "attn_v"} == {8.5}
        assert min(b for role, b in bits if role.startswith("ffn_") and role != "ffn_norm") >= 4.5

    def test_a_floor_of_an_unknown_type(self, tiny: Model, registry: Registry) -> None:
        with pytest.raises(PlanError, match=r"--floor attn_v=Q9_K: there is no format"):
            fitted(tiny, registry, replace(NOTHING, bpw=4.7), floors=(Floor(tensors="attn_v", type="Q9_K"),))

    def test_ties(self, tiny: Model, registry: Registry) -> None:
        found = fitted(tiny, registry, replace(NOTHING, bpw=4.3), ties=(("attn_q", "attn_k", "attn_v"),))
        types = types_of(found.plan)
        assert all(len({types[f"blk.{n}.attn_{role}.weight"] for role in "qkv"}) == 1 for n in range(4))

    def test_rows_that_don_t_divide_into_super_blocks(self, registry: Registry, tmp_path: Path) -> None:
        model = open_model(
            write_gguf(tmp_path / "m.gguf", llama_tensors(cols=96, hidden=512, layers=3)), registry=registry
        )
        found = fitted(model, registry, replace(NOTHING, bpw=5.5))
        assert types_of(again(found, model, registry)) == types_of(found.plan)
        small = {a.type for a in found.plan.assignments if a.tensor.cols == 96 and len(a.tensor.shape) > 1}
        assert small <= {"IQ4_NL", "Q5_0", "Q5_1", "Q8_0"}
        assert len(small) > 1
        assert not found.plan.fallbacks

    def test_experts(self, registry: Registry, tmp_path: Path) -> None:
        metadata = llama_metadata(expert_count=8, expert_used_count=2)
        model = open_model(
            write_gguf(tmp_path / "m.gguf", llama_tensors(experts=8), metadata), registry=registry
        )
        found = fitted(model, registry, replace(NOTHING, active=900_000))
        assert found.spending.limits[0].used <= 900_000

    def test_what_was_measured_decides(self, tiny: Model, registry: Registry) -> None:
        known = estimate(tiny, registry)
        name = "blk.1.attn_q.weight"
        measured = Sensitivity(tensors={**known.tensors, name: replace(known.tensors[name], alpha=1e3)})
        found = fitted(tiny, registry, replace(NOTHING, bpw=4.0), sensitivity=measured)
        assert types_of(found.plan)[name] == "Q8_0"

    def test_types_that_are_offered(self, registry: Registry) -> None:
        usual = offered_types(registry, (), None)
        assert usual[0] == "IQ1_S"
        assert usual[-1] == "Q8_0"
        assert not {"TQ1_0", "MXFP4", "F16"} & set(usual)
        assert offered_types(registry, ("q?_k", "F16"), None) == (
            "Q2_K",
            "Q3_K",
            "Q4_K",
            "Q5_K",
            "Q6_K",
            "F16",
        )
        with pytest.raises(PlanError, match="Q9"):
            offered_types(registry, ("Q9_K",), None)
