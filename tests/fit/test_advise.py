"""advise: how each mix runs on a machine, and which to take."""

from __future__ import annotations

import pytest

from quantrecipe.fit.advise import Advice, Room, advise
from quantrecipe.memory.device import Division, Settings, reserved
from quantrecipe.model.open import open_model
from quantrecipe.registry import Registry, load_registry

GIB = 1 << 30


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


def on(registry: Registry, name: str, gpu: float, ram: float, **settings: object) -> Advice:
    room = Room(gpu=int(gpu * GIB), ram=int(ram * GIB), unified=bool(settings.pop("unified", False)))
    model = open_model(f"shapes/{name}", registry=registry)
    return advise(model, registry, room, Settings(**settings))  # type: ignore[arg-type]  # as given


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
    assert [option.loss for option in advice.options] == sorted(
        (o.loss for o in advice.options), reverse=True
    )
    picks = {pick.use: pick.option.name for pick in advice.picks}
    assert picks["code"] == "fitted"
    assert picks["chat"] == picks["long context"] == "IQ4_XS"


def test_the_context_that_is_named_fits_and_no_longer_one(registry: Registry) -> None:
    name, gpu = "meta-llama-3.1-8b-instruct", 10
    advice = on(registry, name, gpu, 16, context=4096)
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
    assert "experts in main memory" in code.why


def test_no_gpu(registry: Registry) -> None:
    advice = on(registry, "qwen3-0.6b", 0, 4)
    assert {option.way for option in advice.options} == {"cpu"}
    assert all(option.gpu == option.layers == 0 for option in advice.options)


def test_one_memory_for_both(registry: Registry) -> None:
    """What the GPU has, the rest hasn't."""
    apart = on(registry, "qwen3-14b", 12, 12)
    shared = on(registry, "qwen3-14b", 12, 12, unified=True)
    fits = {advice: [o.name for o in advice.options if o.way == "gpu"] for advice in (apart, shared)}
    assert set(fits[shared]) <= set(fits[apart])
    assert all(o.gpu + o.ram <= 12 * GIB for o in shared.options if o.way != "no")


def test_nothing_fits(registry: Registry) -> None:
    advice = on(registry, "deepseek-v3.1", 8, 16)
    assert {option.way for option in advice.options} == {"no"}
    assert advice.picks == ()
