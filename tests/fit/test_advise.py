"""advise: how each mix runs on a machine, and which to take."""

from __future__ import annotations

from pathlib import Path

import pytest

from quantrecipe.errors import QuantrecipeError
from quantrecipe.fit.advise import Advice, Room, Where, advise
from quantrecipe.fit.candidates import named_candidate
from quantrecipe.fit.picks import EXACT, FINE, Option
from quantrecipe.memory.device import Division, Settings, reserved
from quantrecipe.model.open_model import open_model
from quantrecipe.registry import Registry, load_registry

GIB = 1 << 30


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


def on(
    registry: Registry,
    name: str,
    gpu: float,
    ram: float,
    *recipes: str,
    unified: bool = False,
    where: Where | None = None,
    **settings: object,
) -> Advice:
    return advise(
        open_model(f"shapes/{name}", registry=registry),
        registry,
        Room(gpu=int(gpu * GIB), ram=int(ram * GIB), unified=unified),
        Settings(**settings),  # type: ignore[arg-type]  # as given
        candidates=[named_candidate(text, registry) for text in recipes],
        where=where,
    )


def by_name(advice: Advice) -> dict[str, Option]:
    return {option.name: option for option in advice.options}


def test_a_dense_model_that_fits_in_part(registry: Registry) -> None:
    advice = on(registry, "qwen3-14b", 12, 32, context=8192)
    ways = {option.name: option.way for option in advice.options}
    assert ways["Q4_K_M"] == ways["fitted"] == "gpu"
    assert ways["Q8_0"] == "some layers"
    options = {option.name: option for option in advice.options}
    assert 0 < options["Q8_0"].layers < advice.layers == 41
    for option in advice.options:
        assert option.gpu + reserved(12 * GIB) <= 12 * GIB
        assert option.ram <= 32 * GIB
    assert options["fitted"].nbytes > options["Q5_K_M"].nbytes
    assert [option.nbytes for option in advice.options] == sorted(o.nbytes for o in advice.options)
    picks = {pick.use: pick.option.name for pick in advice.picks}
    assert picks["code"] == "fitted"
    assert picks["chat"] == picks["long context"] == "IQ4_XS"


def test_presets_and_the_curated_recipes_that_do_something_else_are_candidates(registry: Registry) -> None:
    dense, experts = on(registry, "qwen3-0.6b", 8, 16), on(registry, "qwen3-30b-a3b", 24, 64)
    for name in ("IQ2_XXS", "Q4_K_M", "Q8_0", "chat", "code-model", "ud-q3-k-xl", "fitted"):
        assert name in by_name(dense), name
    assert "moe-low-bit" in by_name(experts)
    # On a dense model it comes to the same types as another, and the one that asks for less stands for both.
    assert "moe-low-bit" not in by_name(dense)
    assert "mixed" not in by_name(dense)
    assert dense.left_out == {}


def test_what_is_left_adds_up(registry: Registry) -> None:
    advice = on(registry, "qwen3-30b-a3b", 8, 32, "Q4_K_M", context=16384)
    (option,) = advice.options
    whole, beside = option.runs
    assert (whole.way, beside.way) == ("gpu", "experts beside it")
    for run in option.runs:
        assert run.gpu.total == run.gpu.weights + run.gpu.cache + run.gpu.compute + run.gpu.copies
        assert run.gpu_left == 8 * GIB - reserved(8 * GIB) - run.gpu.total
        assert run.ram_left == 32 * GIB - run.ram.total
    assert whole.gpu_left < 0 <= beside.gpu_left
    assert not whole.fits and beside.fits
    assert (
        whole.gpu.cache == beside.gpu.cache == 16384 * 48 * 2 * 4 * 128 * 2
    )  # layers, K and V, heads, width, f16
    assert whole.ram.weights < beside.ram.weights
    assert option.best is not None and option.best.way == "experts beside it"


def test_experiments_and_what_needs_importance_are_marked(registry: Registry) -> None:
    """QR303's yardstick is Q2_K on the same model."""
    options = by_name(on(registry, "meta-llama-3.1-8b-instruct", 24, 64))
    q2_k = options["Q2_K"]
    assert not q2_k.experiment and not q2_k.needs_imatrix
    for option in options.values():
        assert option.experiment == (option.bits_per_weight < q2_k.bits_per_weight), option.name
    assert {name for name, option in options.items() if option.needs_imatrix} == {
        *("IQ2_XXS", "IQ2_M", "IQ3_XXS", "ud-q2-k-xl", "ud-q3-k-xl"),
    }


@pytest.mark.slow
def test_experiments_are_not_recommended(registry: Registry) -> None:
    advice = on(registry, "qwen3-14b", 7, 1, context=4096)
    assert any(option.experiment and option.way != "no" for option in advice.options)
    assert advice.picks and not any(pick.option.experiment for pick in advice.picks)
    only = on(registry, "qwen3-14b", 7, 1, "IQ2_XXS", "IQ2_M", context=4096)
    assert {option.way for option in only.options} == {"gpu"}
    assert only.picks == ()


def test_speed_is_what_the_table_of_targets_says(registry: Registry) -> None:
    recipes = ("IQ4_XS", "Q4_K_M")
    on_cpu = on(registry, "qwen3-0.6b", 0, 16, *recipes)
    assert by_name(on_cpu)["IQ4_XS"].slow == {"cpu": ("IQ4_XS",)}
    assert by_name(on_cpu)["Q4_K_M"].slow == {}
    cuda = on(registry, "qwen3-0.6b", 8, 16, *recipes, where=Where(devices=("cuda",)))
    assert by_name(cuda)["IQ4_XS"].slow == {}
    metal = on(registry, "qwen3-0.6b", 8, 16, *recipes, where=Where(devices=("metal",)))
    assert set(by_name(metal)["IQ4_XS"].slow) == {"metal"}
    ik = on(registry, "qwen3-0.6b", 0, 16, "IQ4_XS", where=Where(engine="ik_llama.cpp"))
    assert by_name(ik)["IQ4_XS"].slow == {}


@pytest.mark.slow
def test_without_a_gpu_slow_types_are_the_last_choice(registry: Registry) -> None:
    """Among what is good enough there is something that the table doesn't call slow on CPUs."""
    advice = on(registry, "meta-llama-3.1-8b-instruct", 0, 16)
    picks = {pick.use: pick.option for pick in advice.picks}
    assert picks["chat"].loss <= FINE and picks["code"].loss <= EXACT
    assert not any(option.slow for option in picks.values())


def test_of_recipes_that_were_named_one_is_picked(registry: Registry) -> None:
    advice = on(registry, "meta-llama-3.1-8b-instruct", 8, 16, "Q3_K_M", "ud-q3-k-xl", context=16384)
    assert {option.name for option in advice.options} == {"ud-q3-k-xl", "Q3_K_M"}
    (pick,) = advice.picks
    assert (pick.use, pick.option.name) == ("", "ud-q3-k-xl")
    assert "loses the least" in pick.why


def test_losses_that_hardly_differ_are_no_reason(registry: Registry) -> None:
    """The estimate may be wrong by 17 % where nothing was measured: then the smaller one is taken."""
    advice = on(registry, "meta-llama-3.1-8b-instruct", 24, 64, "chat", "long-context")
    chat, long = by_name(advice)["chat"], by_name(advice)["long-context"]
    assert long.loss < chat.loss < 1.17 * long.loss and chat.nbytes < long.nbytes
    (pick,) = advice.picks
    assert pick.option.name == "chat" and "17%" in pick.why


def test_what_would_make_it_fit(registry: Registry) -> None:
    (option,) = on(registry, "meta-llama-3.1-8b-instruct", 8, 16, "Q6_K", context=16384).options
    assert not option.runs[0].fits
    assert 0 < option.whole_context < 16384
    assert option.small_cache is not None and option.small_cache.settings.kv == "q8_0"
    assert option.way == "some layers"
    again = on(registry, "meta-llama-3.1-8b-instruct", 8, 16, "Q6_K", context=option.whole_context)
    assert again.options[0].runs[0].fits
    longer = on(registry, "meta-llama-3.1-8b-instruct", 8, 16, "Q6_K", context=option.whole_context + 1024)
    assert not longer.options[0].runs[0].fits


def test_a_recipe_that_chooses_gets_the_machine_as_its_budget(registry: Registry, tmp_path: Path) -> None:
    path = tmp_path / "open.yaml"
    rule = "rules: [{tensors: '*', choose: [Q3_K, Q4_K, Q6_K], why: by loss}]\n"
    path.write_text(f"quantrecipe: 1\n{rule}")
    small, large = (on(registry, "qwen3-14b", gpu, 32, str(path)).options[0] for gpu in (9, 11))
    assert small.nbytes < large.nbytes
    assert small.way == large.way == "gpu"


def test_a_recipe_that_can_t_be_planned_is_an_error_where_it_was_named(
    registry: Registry, tmp_path: Path
) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text("quantrecipe: 1\nrules: [{tensors: nothing_like_it, type: Q4_K, why: x}]\n")
    with pytest.raises(QuantrecipeError, match="nothing_like_it"):
        on(registry, "qwen3-0.6b", 8, 16, str(path))


def test_the_context_that_a_model_was_made_for(registry: Registry) -> None:
    assert on(registry, "qwen3-0.6b", 8, 16, "Q8_0").trained == 40960


def test_the_context_that_is_named_fits_and_no_longer_one(registry: Registry) -> None:
    name, gpu = "meta-llama-3.1-8b-instruct", 10
    advice = on(registry, name, gpu, 16, "Q4_K_M", "Q5_K_M", context=4096)
    option = next(option for option in advice.options if option.name == "Q5_K_M")
    plan_bytes = option.gpu  # at 4096 tokens
    model = open_model(f"shapes/{name}", registry=registry)
    cache = {
        context: Division(model, Settings(context=context)).gpu([]).total
        for context in (4096, option.context, option.context + 1024)
    }
    free = gpu * GIB - reserved(gpu * GIB) - plan_bytes + cache[4096]
    assert cache[option.context] <= free < cache[option.context + 1024]


def test_experts_go_beside_the_gpu(registry: Registry) -> None:
    advice = on(registry, "qwen3-30b-a3b", 12, 48)
    ways = {option.name: option.way for option in advice.options}
    assert ways["Q4_K_M"] == "experts beside it"
    code = next(pick for pick in advice.picks if pick.use == "code")
    assert code.option.way == "experts beside it"
    assert code.option.loss <= EXACT


def test_no_gpu(registry: Registry) -> None:
    advice = on(registry, "qwen3-0.6b", 0, 4, "IQ3_XXS", "Q4_K_M", "Q8_0")
    assert {option.way for option in advice.options} == {"cpu"}
    assert all(option.gpu == option.layers == 0 for option in advice.options)


@pytest.mark.slow
def test_one_memory_for_both(registry: Registry) -> None:
    """What the GPU has, the rest hasn't."""
    apart = on(registry, "qwen3-14b", 12, 12)
    shared = on(registry, "qwen3-14b", 12, 12, unified=True)
    in_both, in_one = ({o.name for o in advice.options if o.way == "gpu"} for advice in (apart, shared))
    assert in_one <= in_both
    assert all(o.gpu + o.ram <= 12 * GIB for o in shared.options if o.way != "no")


@pytest.mark.slow
def test_nothing_fits(registry: Registry) -> None:
    advice = on(registry, "deepseek-v3.1", 8, 16)
    assert {option.way for option in advice.options} == {"no"}
    assert advice.picks == ()


def test_a_pruned_candidate_keeps_fewer_layers(registry: Registry, tmp_path: Path) -> None:
    recipe = tmp_path / "half.yaml"
    recipe.write_text(
        "quantrecipe: 1\nname: half\nextends: llama.cpp/Q8_0\nprune: '10-29'\n", encoding="utf-8"
    )
    advice = on(registry, "qwen3-14b", 12, 32, str(recipe), "llama.cpp/Q8_0", context=8192)
    half, whole = advice.options
    assert (half.all_layers, whole.all_layers) == (21, 41)
    assert half.runs[0].gpu.cache * 2 == whole.runs[0].gpu.cache
    assert (half.way, half.layers) == ("gpu", 21)
    assert half.active is not None
    assert whole.active is not None
    assert half.active < whole.active
