"""What a recipe says of its budget, of where the file shall run, and of types that are left to the optimiser."""

from __future__ import annotations

from pathlib import Path

import pytest

from quantrecipe.errors import RecipeError
from quantrecipe.recipe.budget import Budget, VramBudget, written_budget
from quantrecipe.recipe.load import load_recipe, load_recipe_text
from quantrecipe.recipe.recipe import Recipe
from quantrecipe.recipe.target import Target
from quantrecipe.registry import Registry

CHOOSE = "rules: [{tensors: '*', choose: [Q4_K, Q6_K], why: by measured loss}]\n"


def load(text: str, registry: Registry) -> Recipe:
    return load_recipe_text("quantrecipe: 1\n" + text, file="r.yaml", registry=registry)


def budget(text: str, registry: Registry) -> Budget:
    found = load(f"budget: {text}", registry).budget
    assert found is not None
    return found


def problems(text: str, registry: Registry) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        load(text, registry)
    return [str(problem) for problem in caught.value.problems]


def test_every_limit(registry: Registry) -> None:
    assert budget("{kld: 0.01}", registry).kld == 0.01
    found = budget("{size: 5GiB, bpw: 4.9, vram: 12GiB, ram: 64G, active: 3000000}", registry)
    assert (found.size, found.bpw, found.ram, found.active) == (5 << 30, 4.9, 64 << 30, 3_000_000)
    assert found.vram == VramBudget(total=12 << 30)
    assert found.limited
    assert str(found.origin) == "r.yaml:2"


def test_what_has_to_fit_on_the_gpu(registry: Registry) -> None:
    found = budget(
        "{vram: {total: 8G, context: 32k, kv: q8_0, layers: 20, experts: cpu, ubatch: 256}}", registry
    )
    assert found.vram == VramBudget(
        total=8 << 30, context=32768, kv="q8_0", layers=20, experts="cpu", ubatch=256
    )


@pytest.mark.parametrize("written", ["8", "8.0", "8G", "8GB", "8 gb", "8GiB", "8192MiB", "8589934592"])
def test_of_memory_gb_and_no_unit_are_gib(written: str, registry: Registry) -> None:
    for said in (f"{{vram: {written}}}", f"{{vram: {{total: {written}}}}}", f"{{ram: {written}}}"):
        found = budget(said, registry)
        assert (found.vram.total if found.vram else found.ram) == 8 << 30


def test_variables_are_read_as_what_they_are_used_for(registry: Registry) -> None:
    recipe = load(
        "variables: {room: {type: size, default: 8GB}, tokens: {type: size, default: 32k}}\n"
        "budget: {size: $room, ram: $room, vram: {total: $room, context: $tokens}}\n",
        registry,
    )
    assert recipe.budget is not None and recipe.budget.vram is not None
    assert (recipe.budget.size, recipe.budget.ram) == (8_000_000_000, 8 << 30)
    assert (recipe.budget.vram.total, recipe.budget.vram.context) == (8 << 30, 32768)


def test_a_size_of_few_bytes_is_recorded_with_its_unit(registry: Registry) -> None:
    recipe = load(CHOOSE + "budget: {size: 300kB, active: 0.2M}", registry)
    again = load_recipe_text(recipe.text, file="r.yaml", registry=registry)
    assert again.digest == recipe.digest
    assert again.budget is not None
    assert (again.budget.size, again.budget.active) == (300_000, 200_000)


def test_ties_are_lists_of_patterns(registry: Registry) -> None:
    found = load(
        "groups: {up: 'ffn_{gate,up}'}\nbudget: {ties: [[attn_q, attn_k], group:up]}", registry
    ).budget
    assert found is not None and not found.limited
    assert [[str(pattern) for pattern in tie] for tie in found.ties] == [
        ["attn_q", "attn_k"],
        ["ffn_{gate,up}"],
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "budget: {}",
            "the budget is empty; give it a limit: size, bpw, vram, ram, active, tables, without_tables or kld",
        ),
        (
            "budget: 5GiB",
            "budget must be a mapping, not a text; its keys: "
            "size, bpw, vram, ram, active, tables, without_tables, kld, ties",
        ),
        ("budget: {size: 5 Gigs}", "size: '5 Gigs' is no size; write 5.2GB, 48G or 500M"),
        (
            "budget: {size: 4.5}",
            "size: '4.5' has no unit, and would be 4 bytes; did you mean 4.5GB?",
        ),
        ("budget: {size: [5]}", "size must be a size; write size: 5.2GiB, or 500M"),
        (
            "budget: {active: 5000}",
            "active: '5000' has no unit, and would be 5,000 bytes; did you mean 5000MB?",
        ),
        (
            "budget: {ram: 12282}",
            "ram: '12282' has no unit, and could be MiB or GiB; write 12282MiB, or 12282GiB",
        ),
        ("budget: {vram: 8B}", "vram: '8B' is 8 bytes, which is no memory; did you mean 8GiB?"),
        ("budget: {vram: -8}", "vram: '-8' is no size; write 8GiB, 8G or 8"),
        ("budget: {kld: 0}", "kld must be a mean KL divergence in nats, more than 0; write kld: 0.01"),
        ("budget: {kld: low}", "kld must be a mean KL divergence in nats, more than 0; write kld: 0.01"),
        ("budget: {bpw: 0}", "bpw must be a number of bits, more than 0 and at most 64; write bpw: 4.5"),
        (
            "budget: {bpw: 4.5 bits}",
            "bpw must be a number of bits, more than 0 and at most 64; write bpw: 4.5",
        ),
        (
            "budget: {vram: {context: 3000}}",
            "vram has no `total`; say how much the GPU has: {total: 12GiB, context: 32768}",
        ),
        ("budget: {vram: {total: 1G, kv: q8}}", "kv: 'q8' isn't known; did you mean 'q8_0'?"),
        (
            "budget: {vram: {total: 1G, context: 4}}",
            "context: a context of 4 tokens is too short for anything; did you mean 4k?",
        ),
        (
            "budget: {vram: {total: 1G, context: 4kB}}",
            "context: '4kB' is no number of tokens; write 8192, or 8k",
        ),
        (
            "budget: {vram: {total: 1G, context: [4]}}",
            "context must be a number of tokens; write context: 8192, or 8k",
        ),
        (
            "budget: {vram: {total: 1G, layers: 1.5}}",
            "layers must be a whole number of layers, more than 0; write layers: 512",
        ),
        (
            "budget: {ties: attn_q}",
            "ties must be a list, not a text; start each item with a - on its own line",
        ),
        ("budget: {ties: [{a: b}]}", "a tie is a list of patterns; write [attn_q, attn_k, attn_v]"),
        ("target: ollama", "target must be a mapping, not a text; write {engine: ollama}"),
        (
            "target: {device: cuda}",
            "the target has no `engine`; name one of: llama.cpp, ik_llama.cpp, ollama, lm-studio",
        ),
        ("target: {engine: llamacpp}", "engine: 'llamacpp' isn't known; did you mean 'llama.cpp'?"),
        ("target: {engine: ollama, device: cudda}", "device: 'cudda' isn't known; did you mean 'cuda'?"),
        (
            "target: {engine: ollama, build: 0.12}",
            'build must be a build\'s number or a version; write b7000, or a version in quotes: "0.12"',
        ),
        ("rules: [{tensors: a, choose: []}]", "the list `choose` is empty; name the formats to choose from"),
        (
            "rules: [{tensors: a, choose: Q4_K}]",
            "choose must be a list, not a text; start each item with a - on its own line",
        ),
        (
            "rules: [{tensors: a, choose: [Q4_K], type: Q4_K}]",
            "this rule has a `type` and a `choose`; give it one of them",
        ),
        (
            "rules: [{tensors: a, choose: [keep]}]",
            "'keep' can't be chosen; name formats; F16 or BF16 to leave a model as it is",
        ),
        (
            "rules: [{tensors: a, choose: [Q4_K, Q4_K]}]",
            "'Q4_K' stands twice in `choose`; name each format once",
        ),
        (
            "rules: [{tensors: a, choose: [Q4_K], options: {a: 1}}]",
            "options belong to one format, and this rule leaves the choice; give it a `type`",
        ),
    ],
)
def test_a_mistake_and_what_is_said_of_it(text: str, expected: str, registry: Registry) -> None:
    assert problems(text, registry) == [f"r.yaml:2: {expected}"]


@pytest.mark.parametrize(
    ("written", "build"), [("7000", "b7000"), ("b7000", "b7000"), ('"0.12.3"', "0.12.3")]
)
def test_a_target(written: str, build: str, registry: Registry) -> None:
    target = load(f"target: {{engine: llama.cpp, build: {written}, device: cuda}}", registry).target
    assert target is not None
    assert target == Target(engine="llama.cpp", build=build, device="cuda", origin=target.origin)


def test_a_child_s_limits_replace_all_of_its_parents(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(
        "quantrecipe: 1\nbudget: {size: 5G, ties: [[attn_q, attn_k]]}\ntarget: {engine: ollama}\n"
    )
    child = tmp_path / "child.yaml"
    child.write_text("quantrecipe: 1\nextends: base.yaml\nbudget: {bpw: 4}\ntarget: {engine: llama.cpp}\n")
    recipe = load_recipe(child, registry=registry)
    assert recipe.budget is not None and recipe.target is not None
    assert (recipe.budget.size, recipe.budget.bpw, len(recipe.budget.ties)) == (None, 4.0, 1)
    assert (recipe.target.engine, recipe.target.device) == ("llama.cpp", None)
    child.write_text("quantrecipe: 1\nextends: base.yaml\nbudget: {ties: [[attn_v]]}\n")
    recipe = load_recipe(child, registry=registry)
    assert recipe.budget is not None and recipe.target is not None
    assert (recipe.budget.size, [str(p) for p in recipe.budget.ties[0]]) == (5_000_000_000, ["attn_v"])
    assert recipe.target.engine == "ollama"


def test_what_is_recorded_says_the_same(registry: Registry) -> None:
    recipe = load(
        CHOOSE + "budget: {size: 5.2GiB, vram: {total: 12GiB, kv: q8_0}, ties: [[attn_q, attn_k]]}\n"
        "target: {engine: llama.cpp, build: 7000}\nrequires: quantrecipe>=0.0.1\n",
        registry,
    )
    again = load_recipe_text(recipe.text, file="r.yaml", registry=registry)
    assert again.digest == recipe.digest
    assert recipe.rules[0].choose == again.rules[0].choose == ("Q4_K", "Q6_K")
    assert recipe.rules[0].type == ""
    assert recipe.budget is not None and again.budget is not None
    assert (again.budget.size, again.budget.vram) == (recipe.budget.size, recipe.budget.vram)
    assert again.budget.ties == recipe.budget.ties
    assert again.target is not None and again.target.build == "b7000"
    assert again.requires == ("quantrecipe>=0.0.1",)


def test_the_digest_knows_of_budgets_where_types_are_chosen(registry: Registry) -> None:
    digests = {
        load(text, registry).digest
        for text in (
            CHOOSE,
            CHOOSE + "budget: {bpw: 4}",
            CHOOSE + "budget: {bpw: 5}",
            CHOOSE + "target: {engine: ollama}",
            CHOOSE.replace("Q6_K", "Q5_K"),
        )
    }
    assert len(digests) == 5
    plain = "rules: [{tensors: '*', type: Q4_K}]\n"
    assert load(plain, registry).digest == load(plain + "budget: {bpw: 4}", registry).digest


LIMITS = {"size": "5GiB", "bpw": "4.5", "vram": "12GiB", "ram": "64GiB", "active": "3GB"} | {
    "tables": "700MB",
    "without_tables": "2GB",
    "kld": "0.01",
}


@pytest.mark.parametrize("key", LIMITS)
def test_any_limit_of_a_child_replaces_all_of_its_parent(
    key: str, registry: Registry, tmp_path: Path
) -> None:
    """The parent's ties stay, unless the child has some."""
    whole = ", ".join(f"{name}: {value}" for name, value in LIMITS.items())
    (tmp_path / "parent.yaml").write_text(
        f"quantrecipe: 1\nname: parent\nbudget: {{{whole}, ties: [[attn_q, attn_k]]}}\n{CHOOSE}"
    )

    def child(text: str) -> Budget:
        (tmp_path / "child.yaml").write_text(
            f"quantrecipe: 1\nname: child\nextends: ./parent.yaml\nbudget: {text}\n"
        )
        found = load_recipe(tmp_path / "child.yaml", registry=registry).budget
        assert found is not None
        return found

    own = child(f"{{{key}: {LIMITS[key]}}}")
    given = [name for name in LIMITS if getattr(own, name) is not None]
    assert given == [key]
    assert Path(own.origin.file).name == "child.yaml"
    assert [[str(it) for it in tie] for tie in own.ties] == [["attn_q", "attn_k"]]
    inherited = child("{ties: [[ffn_up, ffn_gate]]}")
    assert [name for name in LIMITS if getattr(inherited, name) is not None] == list(LIMITS)
    assert Path(inherited.origin.file).name == "parent.yaml"
    assert [[str(it) for it in tie] for tie in inherited.ties] == [["ffn_up", "ffn_gate"]]


def test_tables_have_limits_of_their_own(registry: Registry) -> None:
    found = budget("{tables: 700MB, without_tables: 2G}", registry)
    assert (found.tables, found.without_tables) == (700_000_000, 2_000_000_000)
    again = load(CHOOSE + "budget: {tables: 300kB, without_tables: 0.2M}", registry)
    assert again.budget is not None
    assert written_budget(again.budget) == {"tables": "300000B", "without_tables": "200000B"}
