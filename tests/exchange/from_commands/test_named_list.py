"""Lists that name tensors one by one: no tensor's type is changed by summarising them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples

from quantrecipe.errors import RecipeError
from quantrecipe.exchange.from_commands.custom_q import from_custom_q, from_tool_suite
from quantrecipe.exchange.from_commands.llama_quantize import from_llama_quantize
from quantrecipe.exchange.from_commands.named_list import FirstMatch
from quantrecipe.exchange.from_commands.read_command import read_list_for
from quantrecipe.exchange.source import Source
from quantrecipe.model.model import Model
from quantrecipe.model.shapes import open_shapes
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe_text
from quantrecipe.recipe.terms.regex import Regex
from quantrecipe.registry import Registry, load_registry

ZOO = Path(__file__).parents[2] / "data/shapes/zoo"
MODELS = ("llama-32", "qwen3moe-48", "mixtral-8x", "glm4moe-nextn", "llama-4-tied")
TYPES = ("Q8_0", "Q6_K", "Q5_K", "Q4_K", "IQ4_XS", "Q3_K")


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


def planned(text: str, model: Model, registry: Registry) -> dict[str, str]:
    recipe = load_recipe_text(text, registry=registry)
    return {a.tensor.name: a.type for a in make_plan(recipe, model, registry=registry).assignments}


def some_list(rng: random.Random, model: Model, registry: Registry) -> list[tuple[str, str]]:
    """Lines for most of a model's tensors, by layer or by role, with types as tools and people choose them."""
    names = sorted(Source.of(model, registry).reached)
    if rng.random() < 0.5:
        names.sort(key=lambda name: name.rpartition(".")[0].rpartition(".")[2])
    if rng.random() < 0.2:
        rng.shuffle(names)
    main, noise = rng.choice(TYPES), rng.random() * rng.choice((0.02, 0.2, 1))
    lines = []
    for name in names:
        if rng.random() < 0.03:
            continue
        type_ = rng.choice(TYPES) if rng.random() < noise else "Q6_K" if "attn_v" in name else main
        escaped = name.replace(".", r"\.")
        form = rng.choice((name, name, escaped, f"^{escaped}$", name.removesuffix(".weight")))
        lines.append((form, type_))
    if rng.random() < 0.3:
        lines.insert(rng.randrange(len(lines)), (r"blk\.[0-3]\.ffn_down", "Q8_0"))
    return lines


def truth(lines: list[tuple[str, str]], model: Model, registry: Registry) -> dict[str, str]:
    """By the letter: the first expression that is found in the name."""
    regexes = [(Regex.parse(text), type_) for text, type_ in lines]
    found = {}
    for name in Source.of(model, registry).reached:
        if type_ := next((type_ for regex, type_ in regexes if regex.search(name)), ""):
            found[name] = type_
    return found


@settings(max_examples=examples(4), deadline=None)
@given(seed=st.integers(0, 2**32), name=st.sampled_from(MODELS), with_model=st.booleans())
@pytest.mark.slow
def test_no_type_changes(seed: int, name: str, with_model: bool, registry: Registry) -> None:
    rng = random.Random(seed)
    model = open_shapes(ZOO / f"{name}.json")
    lines = some_list(rng, model, registry)
    wanted = truth(lines, model, registry)
    given_model = model if with_model else None
    text = "".join(f"{regex}={type_.lower()}\n" for regex, type_ in lines)
    command = read_list_for(text, "Q4_K_S", pure=rng.random() < 0.5, file="list")
    made = [
        from_llama_quantize(command, registry, model=given_model, name="x", file="list"),
        from_custom_q(text, registry, model=given_model, name="x", file="list"),
        from_tool_suite(text, registry, model=given_model, name="x", file="list"),
    ]
    for found in made:
        types = planned(found.text, model, registry)
        wrong = {it: (types[it], type_) for it, type_ in wanted.items() if types[it] != type_}
        assert not wrong, f"(ours, the list's) of\n{found.text}"


def _parses(text: str) -> bool:
    try:
        Regex.parse(text)
    except RecipeError:
        return False
    return True


@settings(max_examples=examples(200), deadline=None)
@given(
    st.lists(
        st.text(alphabet="ab.^$\\01", min_size=1, max_size=6).filter(_parses),
        min_size=1,
        max_size=8,
    ),
    st.text(alphabet="ab.01", max_size=8),
)
def test_the_first_expression_by_letters_or_not(expressions: list[str], name: str) -> None:
    plain = next((n for n, it in enumerate(expressions) if Regex.parse(it).search(name)), None)
    assert FirstMatch(expressions).find(name) == plain


def test_a_list_becomes_what_the_same_types_of_a_gguf_become(registry: Registry) -> None:
    model = open_shapes(ZOO / "llama-32.json")
    names = sorted(Source.of(model, registry).reached)
    types = {it: "q6_k" if it == "output.weight" else "q5_k" if "blk.3." in it else "q4_k" for it in names}
    text = "".join(f"{name}={type_}\n" for name, type_ in types.items() if name != "output.weight")
    command = read_list_for(f"{text}^output.weight=q6_k\n", "Q4_K_M", file="list")
    found = from_llama_quantize(command, registry, model=model, name="x", file="list")
    assert found.text == (
        "# Imported from llama-quantize.\n"
        "quantrecipe: 1\nname: x\nextends: llama.cpp/Q4_K_M\n"
        "rules:\n"
        "  - tensors: [\"attn_{k,output,q,v}\", \"ffn_{down,gate,up}\"]\n    layers: \"3\"\n    type: Q5_K\n"
        "    why: as 7 lines of the list\n"
        "  - tensors: [attn_v, ffn_down]\n    type: Q4_K\n    why: as 62 lines of the list\n"
    )  # fmt: skip


def test_without_a_model_names_alone_are_joined(registry: Registry) -> None:
    text = "".join(f"blk.{n}.{role}.weight=q4_k\n" for n in range(12) for role in ("attn_q", "attn_k"))
    found = from_custom_q(text + "# the head\noutput=q8_0\n", registry, name="x", file="list")
    assert (
        '  - tensors: attn_{q,k}\n    layers: "0-11"\n    type: Q4_K\n    why: as 24 lines of the list\n'
        in found.text
    )
    assert "tensors: regex:output\n    type: Q8_0\n    why: the head\n" in found.text
    assert any("the 25 lines of the list name tensors one by one" in note for note in found.notes)


def test_comments_of_a_long_list_are_kept(registry: Registry) -> None:
    model = open_shapes(ZOO / "llama-32.json")
    text = "# attention is small\n" + "".join(f"blk.{n}.attn_v.weight=q8_0\n" for n in range(32))
    text += "\n# half\n" + "".join(f"blk.{n}.ffn_up.weight=q3_k\n" for n in range(32))
    for given_model in (model, None):
        found = from_custom_q(text, registry, base="q4_K", model=given_model, name="x", file="list")
        assert "why: attention is small\n" in found.text
        assert "why: half\n" in found.text


def test_the_first_of_two_lines_about_a_tensor_decides(registry: Registry) -> None:
    model = open_shapes(ZOO / "llama-32.json")
    text = "".join(f"blk.{n}.attn_v.weight=q8_0\nblk.{n}.attn_v.weight=q3_k\n" for n in range(32))
    for given_model in (model, None):
        found = from_custom_q(text, registry, base="q4_K", model=given_model, name="x", file="list")
        types = planned(found.text, model, registry)
        assert {types[f"blk.{n}.attn_v.weight"] for n in range(32)} == {"Q8_0"}


def test_names_that_are_found_in_others_keep_their_order(registry: Registry) -> None:
    """`ffn_gate` is found in `ffn_gate_exps`: where layers have the two in another order, lines stay alone."""
    model = open_shapes(ZOO / "glm4moe-nextn.json")
    layers = sorted({it.layer for it in model.tensors if it.role == "ffn_gate_exps" and it.layer is not None})
    pairs = [((f"blk.{n}.ffn_gate_exps", "Q3_K"), (f"blk.{n}.ffn_gate", "Q6_K")) for n in layers]
    lines = [line for pair in pairs for line in pair]
    text = "".join(f"{regex}={type_}\n" for regex, type_ in lines)
    found = from_custom_q(text, registry, base="q4_K", name="x", file="list")
    types = planned(found.text, model, registry)
    wanted = truth(lines, model, registry)
    assert set(wanted.values()) == {"Q3_K", "Q6_K"}
    assert {name: types[name] for name in wanted} == wanted
    assert found.rules == 2
    lines = [line for n, pair in enumerate(pairs) for line in (pair if n % 2 else pair[::-1])]
    text = "".join(f"{regex}={type_}\n" for regex, type_ in lines)
    assert from_custom_q(text, registry, base="q4_K", name="x", file="list").rules == len(lines)
