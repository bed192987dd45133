"""Targets: recipes and the languages in them; commands, lists and scripts of other programs."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

from fuzz.answers import Target, answered, registry, text_of

from quantrecipe.exchange.from_commands.custom_q import from_custom_q, from_tool_suite
from quantrecipe.exchange.from_commands.llama_quantize import from_llama_quantize
from quantrecipe.exchange.from_commands.overrides import read_list
from quantrecipe.exchange.from_commands.read_command import read_command, read_list_for
from quantrecipe.exchange.scripts.script import read_script
from quantrecipe.model.model import Model
from quantrecipe.model.shapes import open_shapes
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe_text
from quantrecipe.recipe.reading.yaml_document import read_document
from quantrecipe.recipe.terms.expression import Expression
from quantrecipe.recipe.terms.layers import LayerSet
from quantrecipe.recipe.terms.pattern import Pattern
from quantrecipe.recipe.terms.regex import Regex
from quantrecipe.tensor import TensorInfo

__all__ = ["TARGETS"]

SHAPES = Path(__file__).parents[1] / "data/shapes/zoo/llama-4-tied.json"
NAMES = (
    "token_embd.weight",
    "blk.0.attn_v.weight",
    "blk.12.ffn_down_exps.weight",
    "enc.blk.3.attn_q.bias",
    "output.weight",
)
TENSORS = [TensorInfo.from_name(name, (256, 256), "BF16") for name in NAMES]
FACTS = {
    "arch": "llama", "n_layers": 32, "n_blocks": 33, "n_expert": 0, "n_gqa": 4, "tied_embeddings": False,
    "has_importance": True, "layer": None, "rank": 3, "count": 9, "rows": 4096, "cols": 1024, "dims": 2, "experts": 1,
    "covered": True, "source_type": "BF16",
}  # fmt: skip


@cache
def model() -> Model:
    return open_shapes(SHAPES)


def yaml(data: bytes) -> None:
    """The tree of a YAML text."""
    with answered():
        read_document(text_of(data), "fuzz.yaml")


def recipe(data: bytes) -> None:
    """A recipe file; one that loads is planned, and its flattened text means the same."""
    with answered():
        found = load_recipe_text(text_of(data), registry=registry())
        again = load_recipe_text(found.text, registry=registry())
        assert again.digest == found.digest, "the flattened recipe means something else"
        make_plan(found, model(), registry=registry())


def rules(data: bytes) -> None:
    """The same behind a beginning that is right."""
    recipe(b"quantrecipe: 1\nkeep: [{tensors: '*_norm', why: small}]\ndefault: Q4_K\nrules:\n" + data)


def pattern(data: bytes) -> None:
    """A pattern, and the names that it is asked about."""
    with answered():
        found = Pattern.parse(text_of(data))
        for tensor in TENSORS:
            reached = found.reaches(tensor, "output.weight", quantizable=False)
            assert not reached or found.matches(tensor, "output.weight")


def layers(data: bytes) -> None:
    """Layers; their normal spelling is the same set."""
    with answered():
        found = LayerSet.parse(text_of(data))
        again = LayerSet.parse(str(found))
        for n_layers in (1, 7, 61):
            assert found.members(n_layers, n_layers + 1) == again.members(n_layers, n_layers + 1)


def expression(data: bytes) -> None:
    """A condition; its canonical spelling has the same value."""
    with answered():
        found = Expression.parse(text_of(data))
        again = Expression.parse(found.canonical)
        assert again.canonical == found.canonical
        assert again.evaluate(FACTS) == found.evaluate(FACTS)


def regex(data: bytes) -> None:
    """A regular expression, and the names that it is searched in."""
    with answered():
        found = Regex.parse(text_of(data))
        for name in NAMES:
            found.search(name)


def lists(data: bytes) -> None:
    """Lists and commands of other programs, alone."""
    text = text_of(data)
    for commas, words in ((False, False), (True, False), (False, True)):
        with answered():
            read_list(text, "fuzz", commas=commas, words=words)
    with answered():
        read_command(text, Path("/nonexistent"), file="fuzz")


def scripts(data: bytes) -> None:
    """Scripts of each shell: sh, cmd, PowerShell, or whichever the text shows; the first byte says which."""
    ending = ("sh", "bat", "ps1", "txt")[data[0] % 4 if data else 0]
    with answered():
        read_script(text_of(data[1:]), f"fuzz.{ending}")


def foreign(data: bytes) -> None:
    """What commands and lists become loads, and plans. The first byte says what they are, and if there is a model."""
    text = text_of(data[1:])
    given = model() if data[:1] > b"\x7f" else None
    with answered():
        kind = data[0] % 4 if data else 0
        if kind == 0:
            made = from_custom_q(text, registry(), model=given, name="fuzz", file="fuzz")
        elif kind == 1:
            made = from_tool_suite(text, registry(), model=given, name="fuzz", file="fuzz")
        elif kind == 2:
            command = read_list_for(text, "Q4_K_M", file="fuzz")
            made = from_llama_quantize(command, registry(), model=given, name="fuzz", file="fuzz")
        else:
            command = read_command(text, Path("/nonexistent"), file="fuzz")
            made = from_llama_quantize(command, registry(), model=given, name="fuzz", file="fuzz")
        if "requires:" not in made.text:
            found = load_recipe_text(made.text, registry=registry())
            if given is not None:
                make_plan(
                    replace(found, importance=replace(found.importance, required=False)),
                    given,
                    registry=registry(),
                )


TARGETS: tuple[Target, ...] = (
    *(yaml, recipe, rules, pattern, layers, expression, regex),
    *(lists, scripts, foreign),
)
