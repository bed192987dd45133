"""llama-quantize's command line: what it says, and what it means for a model.

tests/llama/test_foreign_commands.py holds all this against llama-quantize itself.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from quantrecipe.errors import RecipeError
from quantrecipe.exchange.from_commands.command import Command
from quantrecipe.exchange.from_commands.llama_quantize import from_llama_quantize
from quantrecipe.exchange.from_commands.overrides import Override
from quantrecipe.exchange.from_commands.read_command import read_command, read_list_for
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.model.model import Model
from quantrecipe.model.shapes import open_shapes
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe_text
from quantrecipe.registry import Registry, load_registry

ZOO = Path(__file__).parents[2] / "data/shapes/zoo"


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
        metadata={"general.author": GGUFValue.of(ValueType.STRING, "Ada")},
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
        ("llama-quantize 'in.gguf Q4_0", "command:1: the quotation ' is opened here and never closed"),
        ("llama-quantize --prune-layers x in.gguf Q4_0", "'x' is no layer"),
        ("llama-quantize --override-kv a=b in.gguf Q4_0", "isn't like KEY=TYPE:VALUE"),
        ("llama-quantize --tensor-type-file /dev/null in.gguf Q4_0", "there is no such file"),
        ("", "there is no command of llama-quantize in it"),
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


def read(text: str, **how: int) -> Command:
    return read_command(text, Path(), file="c.sh", **how)


@pytest.mark.parametrize(
    ("command", "what"),
    [
        (
            "llama-quantize m.gguf o.gguf Q4_K_M --override-kv general.author=str:Ann",
            "c.sh:1: '--override-kv general.author=str:Ann' stands behind the type, where llama-quantize takes "
            "'--override-kv' for a number of threads and refuses it; write options before the path of the model",
        ),
        (
            "llama-quantize m.gguf 7b.gguf Q4_K_M",
            "c.sh:1: llama-quantize takes '7b.gguf', which begins with a number, for the type Q8_0",
        ),
        (
            "llama-quantize --pure \\\n  m.gguf o.gguf --tensor-type a=q8_0 Q4_0",
            "c.sh:2: '--tensor-type' isn't a type that llama-quantize knows, and stands where it looks for one; "
            "options stand before the paths",
        ),
        ("llama-quantize m.gguf o.gguf extra Q4_0", "'extra' isn't a type that llama-quantize knows"),
        ("llama-quantize m.gguf o.gguf Q9_K", "'Q9_K' isn't a type that llama-quantize knows"),
        ("llama-quantize m.gguf o.gguf $Q", "c.sh:1: the type isn't known: it has $Q, which is set nowhere in"),
        (
            "llama-quantize --tensor-type $RULE m.gguf o.gguf Q4_0",
            "c.sh:1: the value of --tensor-type isn't known: it has $RULE, which is set nowhere in the script; set "
            "$RULE in a line above, or write the value in its place",
        ),
        (
            "c=$(jq -r .x rules.json)\nllama-quantize --custom-q \"$c\" m.gguf o.gguf Q4_K",
            "c.sh:2: the value of --custom-q isn't known: $(jq -r .x rules.json) isn't understood, and nothing is run; "
            "cut it, and write what it prints in its place",
        ),
        (
            "if x; then Q=Q4_0; else Q=Q5_0; fi\nllama-quantize m.gguf $Q",
            "c.sh:2: the type isn't known: it has $Q (which is set in several ways); write the value in its place",
        ),
        (
            "llama-quantize --target-bpw 4.5 m.gguf o.gguf Q4_0",
            "c.sh:1: --target-bpw lets llama-quantize choose the types itself; `quantrecipe fit MODEL --bpw N` chooses",
        ),
        (
            "llama-quantize --custom-q a=q8_0 --attn-q-type q8_0 m.gguf o.gguf Q4_K",
            r"minds it in some of its presets alone; write it as a rule of --custom-q: blk\..*\.attn_q\.weight=TYPE",
        ),
        ("llama-quantize --include-weights a --exclude-weights b m.gguf Q4_0", "refuses --include-weights and"),
        (
            "llama-quantize \\\n  --pure \\\n  # --leave-output-tensor \\\n  m.gguf o.gguf Q4_0",
            "the command doesn't end in a type that llama-quantize knows; the comment in line 3 ends the command",
        ),
        (
            "llama-quantize --pure \\ \n  m.gguf o.gguf Q4_0",
            "a space stands behind the \\ at the end of line 1, so the command ends there",
        ),
        ("cmake --build .\npython x.py", "no command of llama-quantize in it, only of cmake (line 1), python (line 2)"),
    ],
)  # fmt: skip
def test_no_word_is_dropped_without_a_word(command: str, what: str) -> None:
    with pytest.raises(RecipeError) as caught:
        read(command)
    assert what in str(caught.value)


def test_every_problem_is_told_at_once() -> None:
    with pytest.raises(RecipeError) as caught:
        read(
            "llama-quantize \\\n --frobnicate \\\n --tensor-type x \\\n --target-size 4G \\\n m.gguf o.gguf Q9"
        )
    assert [problem.line for problem in caught.value.problems] == [2, 3, 4, 5]


def test_what_llama_quantize_never_looks_at() -> None:
    command = read("llama-quantize m.gguf o.gguf Q4_K_M 8 \\\n  --tensor-type attn_v=q8_0")
    assert command.overrides == ()
    assert command.notes == (
        "c.sh:2: llama-quantize ignores what stands behind the number of threads, so it is left out here, too: "
        "--tensor-type attn_v=q8_0; options count before the path of the model alone",
    )


def test_several_commands() -> None:
    text = "for q in Q4_K_M Q5_K_M; do\n  llama-quantize in.gguf out-$q.gguf $q\ndone\nllama-quantize in.gguf COPY\n"
    with pytest.raises(RecipeError) as caught:
        read(text)
    assert str(caught.value).splitlines() == [
        "c.sh: has 3 commands of llama-quantize, and a recipe is one mix; choose one with --command N",
        "c.sh:2: command 1: llama-quantize in.gguf out-Q4_K_M.gguf Q4_K_M",
        "c.sh:2: command 2: llama-quantize in.gguf out-Q5_K_M.gguf Q5_K_M",
        "c.sh:4: command 3: llama-quantize in.gguf COPY",
    ]
    assert [read(text, number=n).mixture for n in (1, 2, 3)] == ["Q4_K_M", "Q5_K_M", "COPY"]
    with pytest.raises(RecipeError, match=r"there is no command 4: it has 3"):
        read(text, number=4)
    same = "for m in a b; do llama-quantize --pure $m.gguf $m-q.gguf Q4_0; done"
    assert read(same).mixture == "Q4_0", "they differ in their paths alone"


def test_a_matrix_whose_path_is_not_known() -> None:
    command = read('llama-quantize --imatrix "$IM" "$MODEL" out.gguf IQ2_XS')
    assert command.imatrix == ""
    assert command.notes[0] == "the script doesn't set $MODEL: $MODEL is taken for a path"
    assert (
        "the path of the importance matrix isn't known, since the script doesn't set $IM" in command.notes[1]
    )


def test_what_may_be_options_is_named() -> None:
    (note,) = read("llama-quantize $OPTIONS in.gguf Q4_0").notes
    assert note == "the script doesn't set $OPTIONS: $OPTIONS is taken for a path"
    text = "echo Q4_0 Q5_0 | xargs -n1 llama-quantize in.gguf\nllama-quantize in.gguf Q8_0"
    assert read(text).notes == (
        "what else the script runs isn't in the recipe: xargs … llama-quantize (line 1)",
    )


def test_what_else_a_script_runs_is_told(registry: Registry) -> None:
    text = "python convert.py m\nllama-imatrix -m m\nmkdir out\nllama-quantize m.gguf Q4_0\n"
    assert read(text).notes == (
        "what else the script runs isn't in the recipe: python (line 1), llama-imatrix (line 2)",
    )
    assert "# what else the script runs isn't in the recipe" in made(text, registry)


def test_the_shell_that_was_understood_is_told() -> None:
    note = "it was read as a command of Windows' cmd (it has ^ at the end of a line)"
    assert read_command("llama-quantize ^\n m.gguf Q4_0", Path(), file="c").notes == (note,)


def test_a_list_that_the_script_writes_itself() -> None:
    text = "cat > t.txt <<'EOF'\n# values\nattn_v=q8_0\nEOF\nllama-quantize --tensor-type-file t.txt in.gguf Q4_0\n"
    assert read(text).overrides == (Override(regex="attn_v", type="q8_0", why="values"),)


CARD = (Path(__file__).parents[2] / "data/scripts/card.sh").read_text()


def test_a_script_of_a_model_card(registry: Registry) -> None:
    """ik_llama.cpp's, whose list is cleaned by filters: comments are the reasons of its rules."""
    command = read_command(f"<details>\n\n```bash\n{CARD}```\n</details>\n", Path(), file="README.md")
    assert command.custom is not None
    assert [(it.regex, it.type, it.why, it.line) for it in command.custom] == [
        (r"blk\..*\.attn_q.*", "iq6_k", "Attention", 8),
        (r"blk\..*\.attn_(k|v)\.weight$", "q8_0", "Attention", 9),
        (r"blk\..*\.ffn_down_exps\.weight", "iq3_k", "Routed experts", 12),
        (r"token_embd\.weight", "iq4_k", "Routed experts", 13),
    ]
    assert (command.mixture, command.imatrix) == ("IQ2_KL", "/mnt/raid/imatrix-Model-BF16.dat")
    text = made(CARD, registry)
    assert "requires: [quantrecipe-ik]\n" in text
    assert "default: IQ2_KL\n" in text
    assert "type: IQ6_K\n    why: Attention\n" in text


def test_a_command_of_ik_llama_cpp(registry: Registry) -> None:
    options = "--token-embedding-type q8_0 --output-tensor-type q6_K --repack"
    text = made(
        f"llama-quantize --custom-q 'attn=q8_0,ffn=q4_K_R4' {options} in.gguf out.gguf Q4_K_S", registry
    )
    assert "default: Q4_K\n" in text
    assert text.index("tensors: output\n    type: Q6_K") < text.index("tensors: regex:attn\n    type: Q8_0")
    assert 'tensors: token_embd\n    type: Q8_0\n    why: "--token-embedding-type"\n' in text
    assert "# --repack is about packing the rows" in text
    ignored = made("llama-quantize --pure --custom-q a=q8_0 in.gguf out.gguf IQ3_KL", registry)
    assert "ik_llama.cpp ignores --custom-q with --pure" in ignored
    assert "default: IQ3_K\n" in ignored
    with pytest.raises(RecipeError, match="there is no format 'IQ9_K'"):
        made("llama-quantize --custom-q a=q8_0 in.gguf out.gguf IQ9_K", registry)


def test_the_label_that_a_command_sets(registry: Registry) -> None:
    """As exported commands do where floats have some quantized among them."""
    text = made("llama-quantize --override-kv general.file_type=int:1 in.gguf out.gguf Q8_0", registry)
    assert "file_type: F16\n" in text
    assert "metadata" not in text
    for number in (9999, 145):  # 145 is ik_llama.cpp's IQ4_KS, which no recipe can say
        command = f"llama-quantize --override-kv general.file_type=int:{number} in.gguf out.gguf Q8_0"
        assert f"there is no file_type {number}" in made(command, registry)


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
