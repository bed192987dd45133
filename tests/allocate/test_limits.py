"""What a tensor takes of each limit adds up to what a plan takes, whatever the types are."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
from support.models import llama_metadata, llama_tensors, write_gguf
from support.recipes import recipe, rule

from quantrecipe.allocate.limits import Meter, meters
from quantrecipe.model.model import Model
from quantrecipe.model.open_model import open_model
from quantrecipe.plan.plan import Plan
from quantrecipe.planning import make_plan
from quantrecipe.recipe.budget import Budget, SpeedLimit
from quantrecipe.recipe.load import load_recipe_text
from quantrecipe.recipe.origin import Origin
from quantrecipe.registry import Registry, load_registry
from quantrecipe.sensitivity.prior import estimate
from quantrecipe.tensor import TensorInfo, is_table

BUDGET = "{size: 3MB, bpw: 4.5, vram: {total: 8MB, context: 512, ubatch: 64}, ram: 8MB, active: 3MB, "
BUDGET += "tables: 1MB, without_tables: 3MB}"


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


@pytest.fixture(scope="module", params=[32, 4096])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Of which some tensors, and factors of NVFP4, are far smaller than the alignment."""
    path = tmp_path_factory.mktemp("limits") / "m.gguf"
    metadata = llama_metadata(
        block_count=1, expert_count=2, expert_used_count=1, embedding_length=256, context_length=512
    )
    return open_model(write_gguf(path, llama_tensors(layers=1, experts=2), metadata, alignment=request.param))


def limits(model: Model, registry: Registry, budget: str = BUDGET) -> dict[str, Meter]:
    text = f"quantrecipe: 1\nbudget: {budget}\nrules:\n  - {{tensors: '*', choose: [Q4_K, Q8_0], why: x}}\n"
    given = load_recipe_text(text, registry=registry).budget
    assert given is not None
    return {meter.key: meter for meter in meters(given, model)}


def plan(model: Model, registry: Registry, type_: str) -> Plan:
    return make_plan(
        recipe(rule("attn_v", "Q6_K"), default=type_), model, registry=registry, provenance=False
    )


@pytest.mark.parametrize("key", ["size", "bpw", "ram", "active", "vram", "tables", "without_tables"])
def test_a_type_of_another_size_takes_as_much_more_as_the_plan_does(
    model: Model, registry: Registry, key: str
) -> None:
    """To the byte: with the padding behind each tensor, and factors that only some types have."""
    meter = limits(model, registry)[key]
    plans = [plan(model, registry, name) for name in ("Q4_K", "Q8_0", "Q5_0", "Q4_1")]
    names = {a.tensor.name for a in plans[0].assignments}
    fixed = {meter.whole(made) - meter.used_by(made, names) for made in plans}
    assert len(fixed) == 1


def test_padding_counts(model: Model, registry: Registry) -> None:
    meter = limits(model, registry)["size"]
    tensor = next(t for t in model.tensors if t.role == "attn_norm")
    assert meter.takes(tensor, 1, "F32") == model.alignment
    assert meter.takes(tensor, model.alignment + 1, "F32") == 2 * model.alignment
    made = plan(model, registry, "NVFP4")
    assert (
        made.nbytes
        == meter.whole(made)
        == made.files[0].header + meter.used_by(made, {a.owner or a.tensor.name for a in made.assignments})
    )
    some = {"blk.0.ffn_up_exps.weight"}
    up = next(a for a in made.assignments if a.tensor.name in some)
    assert meter.used_by(made, some) == up.nbytes + model.alignment  # and its factors, padded


def test_bits_per_weight_are_those_of_the_data_alone(model: Model, registry: Registry) -> None:
    meter = limits(model, registry)["bpw"]
    weights = sum(t.size for t in model.tensors)
    assert meter.most == math.floor(4.5 * weights / 8)
    made = plan(model, registry, "Q4_K")
    assert meter.whole(made) == sum(a.nbytes for a in made.assignments)
    assert meter.text(meter.most) == "4.5000 bits per weight"
    assert meter.text(0) == "0.0000 bits per weight"
    # rounded up, so that a limit of this text allows it
    assert meter.text(1) == "0.0001 bits per weight"


def test_amounts_in_words(model: Model, registry: Registry) -> None:
    assert limits(model, registry)["size"].text(1234567) == "1,234,567 bytes"


def test_of_experts_only_those_in_use_are_read(model: Model, registry: Registry) -> None:
    meter = limits(model, registry)["active"]
    up = next(t for t in model.tensors if t.role == "ffn_up_exps")
    q = next(t for t in model.tensors if t.role == "attn_q")
    assert (meter.takes(up, 1001, "Q4_K"), meter.takes(q, 1001, "Q4_K")) == (501, 1001)


def test_the_order_is_that_of_the_keys(model: Model, registry: Registry) -> None:
    keys = ["size", "bpw", "vram", "ram", "active", "tables", "without_tables"]
    assert list(limits(model, registry)) == keys
    assert list(limits(model, registry, "{active: 3MB}")) == ["active"]


@pytest.mark.parametrize("size", [600_000, 700_000, 800_000])
def test_the_choice_within_a_size_is_the_best_one_with_padding(
    tmp_path: Path, registry: Registry, size: int
) -> None:
    """All combinations of a model whose tensors end anywhere between multiples of a large alignment."""
    tensors = llama_tensors(layers=1, cols=256, hidden=768, vocab=30)
    model = open_model(write_gguf(tmp_path / "m.gguf", tensors, alignment=32768))
    types = ("Q2_K", "Q4_K", "Q8_0")
    text = (
        f"quantrecipe: 1\nbudget: {{size: {size}B}}\nrules:\n"
        f'  - {{tensors: "regex:.", choose: [{", ".join(types)}], why: x}}\n'
    )
    made = make_plan(load_recipe_text(text, registry=registry), model, registry=registry, provenance=False)
    known = estimate(model, registry)
    names = [t.name for t in model.tensors if len(t.shape) > 1]

    def file_size(choice: tuple[str, ...]) -> int:
        chosen = dict(zip(names, choice, strict=True))
        end = made.files[0].header
        for a in made.assignments:
            nbytes = a.nbytes
            if a.tensor.name in chosen:
                nbytes = registry.formats[chosen[a.tensor.name]].spec.tensor_bytes(a.tensor.shape)
            end += -(-nbytes // 32768) * 32768
        return end

    found = tuple(next(a.type for a in made.assignments if a.tensor.name == name) for name in names)
    assert file_size(found) == made.nbytes
    best = min(
        math.fsum(known.cost(name, q) or 0.0 for name, q in zip(names, choice, strict=True))
        for choice in itertools.product(types, repeat=len(names))
        if file_size(choice) <= size
    )
    assert made.spending is not None
    assert made.spending.loss == pytest.approx(best, rel=1e-9)


def test_a_limit_of_speed_counts_the_time_of_a_token(model: Model, registry: Registry) -> None:
    """In nanoseconds: what each tensor takes in its type, and what every token takes."""
    nanoseconds = {"Q4_K": 1.0, "Q8_0": 0.5}

    def takes(tensor: TensorInfo, nbytes: int, type_: str) -> int:
        return round(nbytes * nanoseconds.get(type_, 0.0))

    limit = SpeedLimit(least=40, takes=takes, constant=1000)
    (meter,) = meters(Budget(origin=Origin(file="x", line=0), speed=limit), model)
    assert (meter.key, meter.most) == ("speed", 25_000_000)
    made = plan(model, registry, "Q4_K")
    data = sum(a.nbytes for a in made.assignments if a.type == "Q4_K")
    assert meter.whole(made) == 1000 + data
    assert meter.used_by(made, {a.tensor.name for a in made.assignments}) == data
    assert meter.text(25_000_000) == "40 tokens per second"
    assert meter.text(23_456_789) == "42.63 tokens per second"


def test_tables_are_counted_by_themselves(model: Model, registry: Registry) -> None:
    found = limits(model, registry)
    made = plan(model, registry, "Q4_K")
    table = next(a for a in made.assignments if a.tensor.role == "token_embd")
    assert found["tables"].whole(made) == table.nbytes
    whole = sum(a.nbytes for a in made.assignments)
    assert found["without_tables"].whole(made) == whole - table.nbytes


def test_an_embedding_that_makes_the_logits_is_no_table(tmp_path: Path, registry: Registry) -> None:
    path = write_gguf(tmp_path / "m.gguf", llama_tensors(layers=1, tied=True), llama_metadata(block_count=1))
    tied = open_model(path)
    found = limits(tied, registry, "{tables: 1MB, without_tables: 3MB}")
    made = plan(tied, registry, "Q4_K")
    assert found["tables"].whole(made) == 0
    assert found["without_tables"].whole(made) == sum(a.nbytes for a in made.assignments)


def test_tables_for_each_layer_are_tables() -> None:
    """They hold most of the bytes of Gemma 3n, whose embedding is the head."""
    each = TensorInfo.from_name("per_layer_token_embd.weight", (262144, 7680), "F32")
    own = TensorInfo.from_name("token_embd.weight", (262144, 2048), "F32")
    assert is_table(each, "token_embd.weight")
    assert not is_table(own, "token_embd.weight")
    assert is_table(own, "output.weight")
    assert not is_table(TensorInfo.from_name("blk.0.attn_q.weight", (8, 8), "F32"), None)
