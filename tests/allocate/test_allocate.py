"""`choose` rules: the types that lose least within the budget, counted to the byte."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path

import pytest
from support.models import llama_metadata, llama_tensors, write_gguf

from quantrecipe.allocate.allocate import Choices, choices, choose
from quantrecipe.allocate.losses import Losses
from quantrecipe.errors import PlanError, SensitivityError
from quantrecipe.importance.read_importance import read_importance
from quantrecipe.model.model import Model
from quantrecipe.model.open_model import open_model
from quantrecipe.output.apply import apply_plan
from quantrecipe.plan.layout import SplitLimits
from quantrecipe.plan.plan import Plan
from quantrecipe.plan.resolution import resolve
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe_text
from quantrecipe.recipe.recipe import Recipe
from quantrecipe.registry import Registry, load_registry
from quantrecipe.sensitivity.prior import estimate
from quantrecipe.sensitivity.sensitivity import Sensitivity

ROOT = Path(__file__).parents[2]
TINY = ROOT / "examples/tiny-code"
IMATRIX = ROOT / "tests/data/imatrix/imatrix.code.gguf"
TYPES = "[Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, Q8_0]"


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


@pytest.fixture(scope="module")
def tiny(registry: Registry) -> Model:
    return open_model(TINY, registry=registry)


def recipe(budget: str, registry: Registry, *, types: str = TYPES, rules: str = "", **keys: str) -> Recipe:
    text = f"quantrecipe: 1\nbudget: {budget}\n"
    text += "".join(f"{key}: {value}\n" for key, value in keys.items())
    text += f'rules:\n{rules}  - tensors: "regex:."\n    choose: {types}\n    why: test\n'
    return load_recipe_text(text, registry=registry)


def types_of(plan: Plan) -> dict[str, str]:
    return {a.tensor.name: a.type for a in plan.assignments}


class TestBytes:
    @pytest.mark.parametrize("size", [1_600_000, 2_000_000, 2_316_128, 3_333_333])
    @pytest.mark.parametrize("provenance", [True, False])
    def test_the_file_is_no_larger_and_hardly_smaller(
        self, tiny: Model, registry: Registry, size: int, provenance: bool
    ) -> None:
        plan = make_plan(
            recipe(f"{{size: {size}}}", registry), tiny, registry=registry, provenance=provenance
        )
        assert plan.spending is not None
        assert size - 4096 < plan.nbytes <= size
        assert plan.spending.limits[0].used == plan.nbytes
        assert plan.spending.gap == 0.0

    def test_the_file_that_apply_writes(self, tiny: Model, registry: Registry, tmp_path: Path) -> None:
        plan = make_plan(recipe("{size: 1.7MB}", registry), tiny, registry=registry)
        path = apply_plan(plan, tmp_path / "out.gguf", registry=registry).path
        assert path.stat().st_size == plan.nbytes <= 1_700_000

    def test_bits_per_weight_are_those_of_the_data(self, tiny: Model, registry: Registry) -> None:
        plan = make_plan(recipe("{bpw: 4.5}", registry), tiny, registry=registry)
        assert 4.49 < plan.bits_per_weight <= 4.5

    def test_companions_count(self, tmp_path: Path, registry: Registry) -> None:
        """NVFP4 keeps factors in tensors of their own, with names in the header and hashes in the metadata."""
        model = open_model(write_gguf(tmp_path / "m.gguf", llama_tensors(experts=4)), registry=registry)
        open_ones = recipe("{size: 2.2MB}", registry, types="[NVFP4, Q5_K, Q8_0]")
        plan = make_plan(open_ones, model, registry=registry)
        assert {a.type for a in plan.assignments if a.owner is None} & {"NVFP4"}
        for size in range(plan.nbytes - 64, plan.nbytes + 64, 16):
            again = make_plan(
                recipe(f"{{size: {size}}}", registry, types="[NVFP4, Q5_K, Q8_0]"), model, registry=registry
            )
            assert again.nbytes <= size

    def test_shards_count_with_their_headers(self, tiny: Model, registry: Registry) -> None:
        split = SplitLimits(max_tensors=5)
        plan = make_plan(recipe("{size: 2MB}", registry), tiny, registry=registry, split=split)
        assert len(plan.files) == 8
        assert 1_990_000 < plan.nbytes <= 2_000_000

    def test_tensors_that_other_rules_fix_count(self, tiny: Model, registry: Registry) -> None:
        fixed = "  - tensors: head\n    type: F16\n"
        plan = make_plan(recipe("{size: 2.4MB}", registry, rules=fixed), tiny, registry=registry)
        assert types_of(plan)["token_embd.weight"] == "F16"
        assert plan.nbytes <= 2_400_000
        assert plan.spending is not None
        assert "token_embd.weight" not in plan.spending.losses


class TestChoice:
    def test_it_is_the_best_one(self, tmp_path: Path, registry: Registry) -> None:
        """All combinations of a model of one layer, by the prior."""
        model = open_model(write_gguf(tmp_path / "m.gguf", llama_tensors(layers=1)), registry=registry)
        types = ("Q2_K", "Q4_K", "Q8_0")
        plan = make_plan(
            recipe("{bpw: 4.7}", registry, types=f"[{', '.join(types)}]"), model, registry=registry
        )
        known = estimate(model, registry)
        names = [t.name for t in model.tensors if len(t.shape) > 1]
        sizes = {
            t.name: {q: registry.formats[q].spec.tensor_bytes(t.shape) for q in types}
            for t in model.tensors
            if t.name in names
        }
        fixed = sum(4 * t.size for t in model.tensors if t.name not in names)
        most = int(4.7 * plan.size / 8)
        best = min(
            math.fsum(known.cost(name, q) or 0.0 for name, q in zip(names, combination, strict=True))
            for combination in itertools.product(types, repeat=len(names))
            if fixed + sum(sizes[name][q] for name, q in zip(names, combination, strict=True)) <= most
        )
        assert plan.spending is not None
        assert plan.spending.loss == pytest.approx(best, rel=1e-9)

    def test_what_was_measured_decides(self, tiny: Model, registry: Registry) -> None:
        """A tensor that matters much gets much."""
        known = estimate(tiny, registry)
        name = "blk.1.attn_q.weight"
        tensors = {**known.tensors, name: replace(known.tensors[name], alpha=1e3, alpha_source="probe")}
        measured = Sensitivity(tensors=tensors)
        plan = make_plan(recipe("{bpw: 4}", registry), tiny, registry=registry, sensitivity=measured)
        assert types_of(plan)[name] == "Q8_0"
        assert types_of(make_plan(recipe("{bpw: 4}", registry), tiny, registry=registry))[name] != "Q8_0"

    def test_types_that_were_not_measured_are_judged_by_those_that_were(
        self, tiny: Model, registry: Registry
    ) -> None:
        known = estimate(tiny, registry, ("Q4_K",))
        name = "blk.1.attn_q.weight"
        hard = known.tensors[name].losses["Q4_K"]
        tensor = replace(known.tensors[name], losses={"Q4_K": replace(hard, error=hard.error * 100)})
        measured = Sensitivity(tensors={**known.tensors, name: tensor})
        plan = make_plan(recipe("{bpw: 4.2}", registry), tiny, registry=registry, sensitivity=measured)
        assert types_of(plan)[name] == "Q8_0"

    def test_a_measurement_of_another_model_is_refused(self, tiny: Model, registry: Registry) -> None:
        other = open_model("shapes/qwen3-0.6b", registry=registry)
        with pytest.raises(SensitivityError, match="was measured with"):
            make_plan(
                recipe("{bpw: 4}", registry), tiny, registry=registry, sensitivity=estimate(other, registry)
            )
        foreign = Sensitivity(
            tensors={"blk.0.other.weight": next(iter(estimate(tiny, registry).tensors.values()))}
        )
        with pytest.raises(SensitivityError, match="with other tensors"):
            make_plan(recipe("{bpw: 4}", registry), tiny, registry=registry, sensitivity=foreign)

    def test_ties(self, tiny: Model, registry: Registry) -> None:
        budget = "{bpw: 4.3, ties: [[attn_q, attn_k, attn_v], [ffn_gate, ffn_up]]}"
        plan = make_plan(recipe(budget, registry), tiny, registry=registry)
        types = types_of(plan)
        for layer in range(4):
            assert len({types[f"blk.{layer}.attn_{role}.weight"] for role in "qkv"}) == 1
            assert types[f"blk.{layer}.ffn_gate.weight"] == types[f"blk.{layer}.ffn_up.weight"]
        free = make_plan(recipe("{bpw: 4.3}", registry), tiny, registry=registry)
        assert free.spending is not None
        assert plan.spending is not None
        assert free.spending.loss <= plan.spending.loss

    def test_a_tie_without_a_type_in_common(self, tiny: Model, registry: Registry) -> None:
        other = "  - tensors: attn_q\n    choose: [Q4_0, Q5_0]\n"
        budget = "{bpw: 4.3, ties: [[attn_q, attn_k]]}"
        with pytest.raises(PlanError, match=r"recipe.yaml:2: .* are tied, and have no type in common"):
            make_plan(recipe(budget, registry, rules=other), tiny, registry=registry)

    def test_importance(self, tiny: Model, registry: Registry) -> None:
        """IQ2_XS can't be made without; the embedding has none even so."""
        open_ones = recipe("{bpw: 3.6}", registry, types="[IQ2_XS, Q4_K, Q6_K]")
        plan = make_plan(open_ones, tiny, registry=registry, importance=read_importance(IMATRIX))
        types = types_of(plan)
        assert "IQ2_XS" in types.values()
        assert types["token_embd.weight"] != "IQ2_XS"

    def test_types_that_need_importance_are_no_candidates_without(
        self, tiny: Model, registry: Registry
    ) -> None:
        plan = make_plan(
            recipe("{bpw: 4.9}", registry, types="[IQ2_XS, Q4_K, Q6_K]"), tiny, registry=registry
        )
        assert "IQ2_XS" not in types_of(plan).values()

    def test_types_that_don_t_fit_are_no_candidates(self, tmp_path: Path, registry: Registry) -> None:
        """96 columns: no super-blocks. Where nothing on the list fits, its fallbacks are the list."""
        model = open_model(
            write_gguf(tmp_path / "m.gguf", llama_tensors(cols=96, hidden=512)), registry=registry
        )
        plan = make_plan(recipe("{bpw: 7.6}", registry, types="[Q4_K, Q5_K, Q8_0]"), model, registry=registry)
        by_cols = {a.tensor.cols: set() for a in plan.assignments if a.tensor.cols > 1}
        for a in plan.assignments:
            if len(a.tensor.shape) > 1:
                by_cols[a.tensor.cols].add((a.type, a.wanted))
        assert by_cols[96] == {("Q8_0", None)}
        falling = make_plan(recipe("{bpw: 5.4}", registry, types="[Q4_K, Q5_K]"), model, registry=registry)
        assert {a.type for a in falling.assignments if a.tensor.cols == 96 and len(a.tensor.shape) > 1} <= {
            "Q5_0",
            "Q5_1",
        }
        assert falling.fallbacks

    def test_types_that_the_target_doesn_t_run_are_no_candidates(
        self, tiny: Model, registry: Registry
    ) -> None:
        old = "{engine: llama.cpp, build: b1500, device: cuda}"
        types = "[Q4_K, IQ4_XS, Q6_K]"
        plan = make_plan(recipe("{bpw: 4.7}", registry, types=types, target=old), tiny, registry=registry)
        assert "IQ4_XS" not in types_of(plan).values()
        new = make_plan(recipe("{bpw: 4.7}", registry, types=types), tiny, registry=registry)
        assert "IQ4_XS" in types_of(new).values()

    def test_the_source_s_own_type_loses_nothing(self, tiny: Model, registry: Registry) -> None:
        plan = make_plan(recipe("{bpw: 8}", registry, types="[Q4_K, BF16]"), tiny, registry=registry)
        assert plan.spending is not None
        copied = [a.tensor.name for a in plan.assignments if a.type == "BF16"]
        assert copied
        assert {plan.spending.losses[name] for name in copied} == {0.0}

    def test_pruned_layers_are_looked_up_under_their_old_names(self, tiny: Model, registry: Registry) -> None:
        known = estimate(tiny, registry)
        old = "blk.3.attn_q.weight"
        measured = Sensitivity(tensors={**known.tensors, old: replace(known.tensors[old], alpha=1e3)})
        plan = make_plan(
            recipe("{bpw: 4}", registry, prune='"1"'), tiny, registry=registry, sensitivity=measured
        )
        assert types_of(plan)["blk.2.attn_q.weight"] == "Q8_0"

    def test_who_decided(self, tiny: Model, registry: Registry) -> None:
        plan = make_plan(recipe("{bpw: 4}", registry), tiny, registry=registry)
        chosen = [a for a in plan.assignments if len(a.tensor.shape) > 1]
        assert {a.because for a in chosen} == {"recipe.yaml:4 (chosen)"}
        assert {a.why for a in chosen} == {"test"}
        said = plan.to_json()
        assert said["budget"]["limits"][0]["key"] == "bpw"
        assert sum(t["loss"] for t in said["tensors"] if t["loss"]) == pytest.approx(
            said["budget"]["loss"], rel=1e-5
        )

    def test_what_a_bit_more_would_buy_is_what_it_buys(self, tiny: Model, registry: Registry) -> None:
        plan = make_plan(recipe("{size: 2MB}", registry), tiny, registry=registry)
        assert plan.spending is not None
        (spent,) = plan.spending.limits
        richer = make_plan(recipe(f"{{size: {spent.most + spent.more}}}", registry), tiny, registry=registry)
        assert richer.spending is not None
        assert spent.gain == pytest.approx(plan.spending.loss - richer.spending.loss, rel=1e-6)
        assert spent.gain > 0

    def test_several_limits(self, tiny: Model, registry: Registry) -> None:
        budget = "{size: 2.2MB, bpw: 4.4, vram: {total: 4MiB, context: 512, ubatch: 64}}"
        plan = make_plan(recipe(budget, registry), tiny, registry=registry)
        assert plan.spending is not None
        assert [spent.key for spent in plan.spending.limits] == ["size", "bpw", "vram"]
        assert all(spent.used <= spent.most for spent in plan.spending.limits)


class TestSmallest:
    """`kld`: the smallest choice that loses no more."""

    def test_it_is_the_smallest_one(self, tmp_path: Path, registry: Registry) -> None:
        """All combinations of a model of one layer, by the prior."""
        model = open_model(write_gguf(tmp_path / "m.gguf", llama_tensors(layers=1)), registry=registry)
        types = ("Q2_K", "Q4_K", "Q8_0")
        known = estimate(model, registry)
        matrices = [t for t in model.tensors if len(t.shape) > 1]
        for most in (0.005, 0.02, 0.1):
            mix = recipe(f"{{kld: {most}}}", registry, types=f"[{', '.join(types)}]")
            plan = make_plan(mix, model, registry=registry)
            smallest = min(
                sum(
                    registry.formats[q].spec.tensor_bytes(t.shape) for t, q in zip(matrices, its, strict=True)
                )
                for its in itertools.product(types, repeat=len(matrices))
                if math.fsum(known.cost(t.name, q) or 0 for t, q in zip(matrices, its, strict=True)) <= most
            )
            assert sum(a.nbytes for a in plan.assignments if len(a.tensor.shape) > 1) == smallest
            assert plan.spending is not None
            assert plan.spending.loss <= most == plan.spending.kld
            assert plan.spending.limits == ()

    def test_what_rules_fix_loses_too(self, tiny: Model, registry: Registry) -> None:
        fixed = "  - tensors: ffn_down\n    type: Q4_K\n    why: test\n"
        plan = make_plan(recipe("{kld: 0.02}", registry, rules=fixed), tiny, registry=registry)
        known = estimate(tiny, registry)
        whole = sum(
            known.cost(a.tensor.name, a.type) or 0 for a in plan.assignments if len(a.tensor.shape) > 1
        )
        assert plan.spending is not None and 0.019 < whole <= 0.02
        assert plan.spending.loss < whole

    def test_within_other_limits(self, tiny: Model, registry: Registry) -> None:
        alone = make_plan(recipe("{kld: 0.01}", registry), tiny, registry=registry)
        both = make_plan(recipe("{kld: 0.01, size: 2.4MB}", registry), tiny, registry=registry)
        assert types_of(alone) == types_of(both)
        assert both.spending is not None and both.spending.limits[0].used == both.nbytes <= 2_400_000

    @pytest.mark.parametrize(
        ("budget", "said"),
        [
            (
                "{kld: 1e-7}",
                r"kld is 1e-07, and the best ones lose 6.48e-05 by the estimate; allow at least 6.54e-05",
            ),
            (
                "{kld: 0.002, size: 2MB}",
                r"keeps the limits \(size 2,000,000 bytes\) and loses at most 0.002 by the estimate: the best one "
                r"loses 0.0\d+; allow a kld of 0.0\d+, or more bytes",
            ),
            ("{kld: 0.01, size: 1MB}", "the budget can't be kept: size is 1,000,000 bytes"),
        ],
    )
    def test_what_nothing_meets_says_how_near_one_can_come(
        self, tiny: Model, registry: Registry, budget: str, said: str
    ) -> None:
        with pytest.raises(PlanError, match=said):
            make_plan(recipe(budget, registry), tiny, registry=registry)

    def test_a_recipe_that_leaves_nothing_to_choose_is_held_to_it(
        self, tiny: Model, registry: Registry
    ) -> None:
        text = "quantrecipe: 1\nextends: llama.cpp/Q4_K_M\nbudget: {kld: %s}\n"
        make_plan(load_recipe_text(text % "0.1", registry=registry), tiny, registry=registry)
        with pytest.raises(
            PlanError, match=r"recipe.yaml:3: the recipe loses more than the budget allows: kld"
        ):
            make_plan(load_recipe_text(text % "0.001", registry=registry), tiny, registry=registry)


class TestMemory:
    def test_the_gpu_s_memory_has_more_in_it_than_weights(self, tiny: Model, registry: Registry) -> None:
        def weights(budget: str) -> int:
            return sum(
                a.nbytes for a in make_plan(recipe(budget, registry), tiny, registry=registry).assignments
            )

        short = weights("{vram: {total: 7MB, context: 512, ubatch: 64}}")
        long = weights("{vram: {total: 7MB, context: 2048, ubatch: 64}}")
        quantized = weights("{vram: {total: 7MB, context: 2048, ubatch: 64, kv: q8_0}}")
        assert long < quantized < short

    def test_layers_that_stay_in_main_memory_take_nothing(self, tiny: Model, registry: Registry) -> None:
        budget = "{vram: {total: 4.5MB, context: 512, ubatch: 64, layers: 2}}"
        types = types_of(make_plan(recipe(budget, registry), tiny, registry=registry))
        assert all(types[f"blk.{n}.ffn_up.weight"] == "Q8_0" for n in (0, 1, 2))

    def test_everything_fits(self, tiny: Model, registry: Registry) -> None:
        """More memory than is needed is no mistake, unlike a size that can't be reached."""
        plan = make_plan(recipe("{vram: 12GiB}", registry), tiny, registry=registry)
        assert {a.type for a in plan.assignments if len(a.tensor.shape) > 1} == {"Q8_0"}

    def test_active_bytes_leave_experts_alone(self, tmp_path: Path, registry: Registry) -> None:
        metadata = llama_metadata(expert_count=8, expert_used_count=1)
        tensors = llama_tensors(experts=8)
        model = open_model(write_gguf(tmp_path / "m.gguf", tensors, metadata), registry=registry)
        plan = make_plan(recipe("{active: 1.1MB}", registry), model, registry=registry)
        bits = {a.tensor.role: a.bits_per_weight for a in plan.assignments}
        assert plan.nbytes > 2_500_000
        assert bits["ffn_up_exps"] > 3


class TestErrors:
    @pytest.mark.parametrize(
        ("budget", "said"),
        [
            (
                "{size: 1MB}",
                r"size is 1,000,000 bytes, and the smallest types that are allowed take 1,28\d,\d+ bytes",
            ),
            (
                "{bpw: 2.5}",
                r"bpw is 2.5000 bits per weight, and the smallest .* take 2.64\d+ bits per weight",
            ),
            (
                "{size: 20MB}",
                r"size is 20,000,000 bytes, and the best types that are allowed take 3,9\d\d,\d+ bytes",
            ),
            ("{active: 1MB}", r"active is 1,000,000 bytes, and the smallest"),
        ],
    )
    def test_budgets_that_can_t_be_kept_name_the_nearest_that_can(
        self, tiny: Model, registry: Registry, budget: str, said: str
    ) -> None:
        with pytest.raises(PlanError, match=f"recipe.yaml:2: the budget .*{said}"):
            make_plan(recipe(budget, registry), tiny, registry=registry)

    def test_the_nearest_that_is_named_works(self, tiny: Model, registry: Registry) -> None:
        for wrong in ("1MB", "1283936"):
            with pytest.raises(PlanError) as error:
                make_plan(recipe(f"{{size: {wrong}}}", registry), tiny, registry=registry)
            nearest = error.value.problems[0].remedy.split("at least ")[1].split(" bytes")[0].replace(",", "")
        plan = make_plan(recipe(f"{{size: {nearest}}}", registry), tiny, registry=registry)
        assert plan.nbytes <= int(nearest)

    def test_at_the_floor_there_is_nothing_to_choose(self, tiny: Model, registry: Registry) -> None:
        with pytest.raises(PlanError, match="which every tensor's smallest type fills; allow at least"):
            make_plan(recipe("{bpw: 2.6470}", registry), tiny, registry=registry)

    def test_no_budget(self, tiny: Model, registry: Registry) -> None:
        open_ones = replace(recipe("{bpw: 4}", registry), budget=None)
        with pytest.raises(
            PlanError, match=r"recipe.yaml:4: .* there is no budget to choose within; .*--bpw"
        ):
            make_plan(open_ones, tiny, registry=registry)

    def test_a_recipe_that_leaves_nothing_to_choose_is_held_to_its_budget(
        self, tiny: Model, registry: Registry
    ) -> None:
        text = "quantrecipe: 1\nextends: llama.cpp/Q4_K_M\nbudget: {size: %s}\n"
        fits = make_plan(load_recipe_text(text % "2.5MB", registry=registry), tiny, registry=registry)
        assert fits.spending is None
        with pytest.raises(PlanError, match=r"recipe.yaml:3: the recipe takes more than the budget allows"):
            make_plan(load_recipe_text(text % "2MB", registry=registry), tiny, registry=registry)

    def test_a_budget_may_be_used_to_its_last_byte(self, tiny: Model, registry: Registry) -> None:
        text = "quantrecipe: 1\nextends: llama.cpp/Q4_K_M\nbudget: {size: %d}\n"

        def planned(size: int) -> Plan:
            return make_plan(
                load_recipe_text(text % size, registry=registry), tiny, registry=registry, provenance=False
            )

        whole = planned(10_000_000).nbytes
        assert planned(whole).nbytes == whole
        with pytest.raises(PlanError, match="the recipe takes more than the budget allows"):
            planned(whole - 1)


class TestChoices:
    """What is open, apart from the budget: several budgets of one recipe cost less time."""

    @pytest.fixture
    def open_(self, tiny: Model, registry: Registry) -> Choices:
        resolution = resolve(recipe("{bpw: 5}", registry), tiny, registry)
        return choices(resolution, Losses(tiny, registry, None, {}))

    @pytest.mark.parametrize("bits", [3.1, 4.7, 7.9])
    def test_a_choice_is_the_plan_of_the_recipe(
        self, bits: float, open_: Choices, tiny: Model, registry: Registry
    ) -> None:
        made = make_plan(recipe(f"{{bpw: {bits}}}", registry), tiny, registry=registry)
        budget = replace(open_.resolution.recipe.budget, bpw=bits)
        plan = choose(open_, budget, items=open_.items(budget), tell_gains=False)
        assert types_of(plan) == types_of(made)
        assert plan.spending is not None and made.spending is not None
        assert plan.spending.losses == made.spending.losses
        assert [it.gain for it in plan.spending.limits] == [0.0]
        assert made.spending.limits[0].gain > 0

    def test_items_are_the_same_whatever_a_limit_allows(self, open_: Choices) -> None:
        budget = open_.resolution.recipe.budget
        assert open_.items(budget) == open_.items(replace(budget, bpw=3.0))

    def test_the_ends(self, open_: Choices) -> None:
        for a in open_.smallest.assignments:
            if its := open_.open_to.get(a.tensor.name):
                assert a.nbytes == min(it.nbytes for it in its)
        assert {a.type for a in open_.best().assignments if a.tensor.name in open_.open_to} == {"Q8_0"}

    def test_other_losses(self, open_: Choices) -> None:
        """The types that were dear are cheap, and the other way round: the smallest are chosen."""
        seen = open_.seen_by(lambda name, spec: spec.bits_per_weight)
        assert {it.loss for its in seen.open_to.values() for it in its} > {2.625, 8.5}
        assert types_of(seen.best()) == types_of(open_.smallest)
        assert open_.best().bits_per_weight > seen.best().bits_per_weight  # as they were
