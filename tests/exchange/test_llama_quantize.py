"""llama-quantize's command line: what it says, and what it means for a model.

tests/llama/test_foreign_commands.py holds all this against llama-quantize itself.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from quantrecipe.errors import RecipeError
from quantrecipe.exchange.from_llama_quantize import from_llama_quantize
from quantrecipe.exchange.llama_quantize import Command, read_command, read_list_for
from quantrecipe.exchange.overrides import Override
from quantrecipe.model.model import Model
from quantrecipe.model.shapes import open_shapes
from quantrecipe.plan.make import make_plan
from quantrecipe.recipe.load import load_recipe_text
from quantrecipe.registry import Registry, load_registry

ZOO = Path(__file__).parents[1] / "data/shapes/zoo"


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


@pytest.fixture(scope="module")
def llama() -> Model:
    return open_shapes(ZOO / "llama-32.json")


def made(command: str, registry: Registry, model: Model | None = None) -> str:
    said = read_command(command, Path(), file="command")
    return from_llama_quantize(said, registry, model=model, name="made", file="command").text


def types(command: str, registry: Registry, model: Model) -> dict[str, str]:
    recipe = load_recipe_text(made(command, registry, model), registry=registry)
    return {a.tensor.name: a.type for a in make_plan(recipe, model, registry=registry).assignments}


def test_a_command_line_is_read_as_the_shell_would() -> None:
    command = read_command(
        r"""#!/bin/sh
# my mix
./build/bin/llama-quantize --imatrix "my imatrix.dat" --tensor-type 'blk\.([0-3])\.ffn_down=Q6_K' \
    --tensor-type attn_v=q8_0 --output-tensor-type q8_0 --override-kv general.author=str:Ada \
    --include-weights ffn_ --prune-layers 3,5 --pure model-BF16.gguf out.gguf q4_k_m 8
""",
        Path(),
        file="quantize.sh",
    )
    assert command == Command(
        mixture="Q4_K_M",
        overrides=(
            Override(regex=r"blk\.([0-3])\.ffn_down", type="Q6_K"),
            Override(regex="attn_v", type="q8_0"),
        ),
        pure=True,
        output_type="q8_0",
        imatrix="my imatrix.dat",
        include=("ffn_",),
        prune=(3, 5),
        metadata={"general.author": "Ada"},
    )


@pytest.mark.parametrize(
    ("command", "mixture"),
    [
        ("llama-quantize in.gguf Q4_0", "Q4_0"),
        ("llama-quantize in.gguf out.gguf 15", "Q4_K_M"),
        ("llama-quantize in.gguf out.gguf 7 4", "Q8_0"),
        ("llama-quantize in.gguf out.gguf IQ3_M 16", "IQ3_M"),
        ("llama-quantize in.gguf q4_k", "Q4_K"),
        ("llama-quantize --dry-run in.gguf COPY", "COPY"),
    ],
)
def test_the_type_stands_behind_the_files(command: str, mixture: str) -> None:
    assert read_command(command, Path(), file="command").mixture == mixture


@pytest.mark.parametrize(
    ("command", "what"),
    [
        ("llama-quantize in.gguf out.gguf", "doesn't end in a type"),
        ("llama-quantize --frobnicate in.gguf Q4_0", "'--frobnicate' isn't an option"),
        ("llama-quantize --tensor-type", "--tensor-type has no value"),
        ("llama-quantize --tensor-type attn_v in.gguf Q4_0", "'attn_v' isn't like REGEX=TYPE"),
        ("llama-quantize 'in.gguf Q4_0", "can't be read: No closing quotation"),
        ("llama-quantize --prune-layers x in.gguf Q4_0", "'x' is no layer"),
        ("llama-quantize --override-kv a=b in.gguf Q4_0", "isn't like KEY=TYPE:VALUE"),
        ("llama-quantize --tensor-type-file /dev/null in.gguf Q4_0", "there is no such file"),
        ("", "doesn't end in a type"),
    ],
)
def test_what_is_not_understood_is_said(command: str, what: str) -> None:
    with pytest.raises(RecipeError) as caught:
        read_command(command, Path(), file="command")
    assert what in str(caught.value)
    assert str(caught.value).startswith(("command", "'attn_v'", "/dev/null"))


def test_a_tensor_type_file_is_read_beside_the_script(tmp_path: Path) -> None:
    (tmp_path / "types.txt").write_text("attn_v=q8_0 attn_k=q6_k\n# head\noutput=q8_0\n")
    command = read_command(
        "llama-quantize --tensor-type-file types.txt in.gguf Q4_0", tmp_path, file="command"
    )
    assert [(it.regex, it.type, it.why) for it in command.overrides] == [
        ("attn_v", "q8_0", ""),
        ("attn_k", "q6_k", ""),
        ("output", "q8_0", "head"),
    ]
    assert read_list_for("attn_v=q8_0", "q4_k_m", file="f").mixture == "Q4_K_M"


def test_without_a_model_the_recipe_says_what_the_command_says(registry: Registry) -> None:
    pattern = r"--tensor-type '^blk\.[0-3]\.attn_v\.weight$=q6_k'"
    text = made(f"llama-quantize --imatrix m.dat {pattern} in.gguf out.gguf Q4_K_M", registry)
    assert "extends: llama.cpp/Q4_K_M\nimportance: {file: m.dat}\n" in text
    assert '  - tensors: attn_v\n    layers: "0-3"\n    type: Q6_K\n    why: \'as --tensor-type' in text
    assert "llama-quantize doesn't count the tensors that --tensor-type names" in text
    load_recipe_text(text, registry=registry)


def test_patterns_are_lower_cased(registry: Registry, llama: Model) -> None:
    r"""`\D` becomes `\d`, and capitals find what is written small."""
    found = types(r"llama-quantize --tensor-type 'blk\.\D+\.FFN_UP=q8_0' in.gguf Q4_K_S", registry, llama)
    assert {found[f"blk.{layer}.ffn_up.weight"] for layer in range(32)} == {"Q8_0"}
    assert r"'blk\\.\\D+\\.FFN_UP', to 'blk\\.\\d+\\.ffn_up'" in made(
        r"llama-quantize --tensor-type 'blk\.\D+\.FFN_UP=q8_0' in.gguf Q4_K_S", registry, llama
    )


def test_the_first_pattern_decides(registry: Registry, llama: Model) -> None:
    options = r"--tensor-type 'blk\.0\.ffn_up=q8_0' --tensor-type ffn_up=q6_k --tensor-type ffn_up=q2_k"
    found = types(f"llama-quantize {options} in.gguf Q4_K_S", registry, llama)
    assert (found["blk.0.ffn_up.weight"], found["blk.1.ffn_up.weight"]) == ("Q8_0", "Q6_K")
    assert "ffn_up=q2_k is left out: overrides before it take all of its tensors" in made(
        f"llama-quantize {options} in.gguf Q4_K_S", registry, llama
    )


@pytest.mark.parametrize("base", ["F16", "BF16", "F32"])
def test_patterns_are_ignored_on_a_float(base: str, registry: Registry, llama: Model) -> None:
    """ik_llama.cpp 2415."""
    command = f"llama-quantize --tensor-type attn_v=q8_0 --token-embedding-type q8_0 in.gguf {base}"
    found = types(command, registry, llama)
    assert found["blk.0.attn_v.weight"] == base
    assert found["token_embd.weight"] == "Q8_0", "this option isn't ignored"
    assert f"ignores --tensor-type where the type is {base}" in made(command, registry)


def test_norms_and_routers_are_never_quantized(registry: Registry) -> None:
    model = open_shapes(ZOO / "qwen3moe-48.json")
    command = "llama-quantize --tensor-type ffn_gate_inp=q8_0 --tensor-type norm=q8_0 in.gguf Q4_K_M"
    assert "ffn_gate_inp=q8_0 is left out: llama-quantize never quantizes what it names" in made(
        command, registry, model
    )
    assert types(command, registry, model)["blk.0.ffn_gate_inp.weight"] == "F16", "as in the source"


def test_tensors_that_a_pattern_takes_out_are_not_counted(registry: Registry, llama: Model) -> None:
    """With four of 32 taken out, "more bits" goes to the first four of the others, too."""
    found = types(r"llama-quantize --tensor-type 'blk\.[0-3]\.attn_v=q8_0' in.gguf Q4_K_M", registry, llama)
    more = [layer for layer in range(32) if found[f"blk.{layer}.attn_v.weight"] == "Q6_K"]
    assert more[:6] == [4, 5, 6, 7, 10, 13]
    plain = types("llama-quantize in.gguf Q4_K_M", registry, llama)
    assert [layer for layer in range(32) if plain[f"blk.{layer}.attn_v.weight"] == "Q6_K"][:6] == [
        0,
        1,
        2,
        3,
        6,
        9,
    ]


def test_a_pattern_may_fall_back(registry: Registry) -> None:
    """#14996: it used to crash."""
    model = open_shapes(ZOO / "columns-1152-and-96.json")
    found = types("llama-quantize --tensor-type attn_q=q6_k in.gguf Q4_K_S", registry, model)
    assert found["blk.0.attn_q.weight"] == "Q8_0"


def test_pure_is_one_type(registry: Registry, llama: Model) -> None:
    text = made("llama-quantize --pure --tensor-type attn_v=q8_0 in.gguf Q4_K_M", registry, llama)
    assert "extends" not in text
    assert "file_type: Q4_K_M\ndefault: Q4_K\n" in text
    assert types("llama-quantize --pure in.gguf Q4_K_M", registry, llama)["output.weight"] == "Q4_K"


def test_tied_embeddings_are_the_output(registry: Registry) -> None:
    model = open_shapes(ZOO / "llama-4-tied.json")
    assert (
        types("llama-quantize --output-tensor-type q8_0 in.gguf Q4_K_M", registry, model)["token_embd.weight"]
        == "Q8_0"
    )
    both = "llama-quantize --output-tensor-type q8_0 --token-embedding-type q5_k in.gguf Q4_K_M"
    assert types(both, registry, model)["token_embd.weight"] == "Q5_K"


def test_the_output_can_be_left(registry: Registry, llama: Model) -> None:
    assert (
        types("llama-quantize --leave-output-tensor in.gguf Q4_K_M", registry, llama)["output.weight"]
        == "F16"
    )


def test_metadata_and_pruned_layers_are_taken_over(registry: Registry, llama: Model) -> None:
    text = made(
        "llama-quantize --override-kv a.b=int:-3 --override-kv a.c=bool:true --prune-layers 3,4 in.gguf Q4_0",
        registry,
        llama,
    )
    recipe = load_recipe_text(text, registry=registry)
    assert {key: value.decode() for key, value in recipe.metadata.items()} == {"a.b": 3, "a.c": True}
    assert str(recipe.prune) == "3, 4"


@pytest.mark.parametrize(("override", "says"), [("ffn=q6_k", "file_type: Q4_K_M\n"), ("attn_v=q6_k", "")])
def test_the_label_is_that_of_the_mix_that_was_called_for(
    registry: Registry, llama: Model, override: str, says: str
) -> None:
    """llama-quantize doesn't look at what overrides make of it; an inherited label would give way to the types."""
    text = made(f"llama-quantize --tensor-type {override} m.gguf o.gguf Q4_K_M", registry, llama)
    assert ("file_type" in text) == bool(says)
    assert says in text
    plan = make_plan(load_recipe_text(text, registry=registry), llama, registry=registry)
    assert plan.metadata["general.file_type"].decode() == 15
