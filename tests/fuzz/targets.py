"""What is fuzzed: each target takes bytes, and raises for what should not be.

Errors of ours (QuantrecipeError) are answers. Everything else that escapes is a finding, and so is a broken promise.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache
from pathlib import Path

from quantrecipe.errors import QuantrecipeError
from quantrecipe.exchange.from_commands.custom_q import from_custom_q, from_tool_suite
from quantrecipe.exchange.from_commands.llama_quantize import from_llama_quantize
from quantrecipe.exchange.from_commands.overrides import read_list
from quantrecipe.exchange.from_commands.read_command import read_command, read_list_for
from quantrecipe.exchange.from_files.recover import recover
from quantrecipe.exchange.scripts.script import read_script
from quantrecipe.gguf.header import read_header
from quantrecipe.model.model import Model
from quantrecipe.model.open_model import open_model
from quantrecipe.model.shapes import open_shapes
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe_text
from quantrecipe.recipe.reading import chain
from quantrecipe.recipe.reading.yaml_document import read_document
from quantrecipe.recipe.terms.expression import Expression
from quantrecipe.recipe.terms.layers import LayerSet
from quantrecipe.recipe.terms.pattern import Pattern
from quantrecipe.recipe.terms.regex import Regex
from quantrecipe.registry import Registry, load_registry
from quantrecipe.tensor import TensorInfo

__all__ = ["TARGETS", "TooSlowError"]

SHAPES = Path(__file__).parents[1] / "data/shapes/zoo/llama-4-tied.json"
SECONDS = 5.0
"""What an answer may take here, where every line is counted: about one without."""
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


class TooSlowError(Exception):
    """An answer that took longer than anybody would wait."""


@contextmanager
def in_time():
    """Processor time, so that a busy machine finds nothing."""
    start = time.process_time()
    yield
    if (taken := time.process_time() - start) > SECONDS:
        raise TooSlowError(f"{taken:.1f} s")


@cache
def registry() -> Registry:
    return load_registry(plugins=False)


@cache
def _document(text: str, file: str):
    return read_document(text, file)


def _read_document(text: str, file: str):
    """Shipped recipes are read once: they aren't what is fuzzed, and take most of the time."""
    if file.startswith("llama.cpp@"):
        root, problems = _document(text, file)
        return root, list(problems)
    return read_document(text, file)


chain.read_document = _read_document


@cache
def model() -> Model:
    return open_shapes(SHAPES)


def text_of(data: bytes) -> str:
    return data.decode("utf-8", errors="replace")


def recipe(data: bytes) -> None:
    """A recipe file; one that loads is planned, and its flattened text means the same."""
    with in_time(), suppress(QuantrecipeError):
        found = load_recipe_text(text_of(data), registry=registry())
        again = load_recipe_text(found.text, registry=registry())
        assert again.digest == found.digest, "the flattened recipe means something else"
        make_plan(found, model(), registry=registry())


def rules(data: bytes) -> None:
    """The same behind a beginning that is right."""
    recipe(b"quantrecipe: 1\nkeep: [{tensors: '*_norm', why: small}]\ndefault: Q4_K\nrules:\n" + data)


def pattern(data: bytes) -> None:
    """A pattern, and the names that it is asked about."""
    with in_time(), suppress(QuantrecipeError):
        found = Pattern.parse(text_of(data))
        for tensor in TENSORS:
            reached = found.reaches(tensor, "output.weight", quantizable=False)
            assert not reached or found.matches(tensor, "output.weight")


def layers(data: bytes) -> None:
    """Layers; their normal spelling is the same set."""
    with in_time(), suppress(QuantrecipeError):
        found = LayerSet.parse(text_of(data))
        again = LayerSet.parse(str(found))
        for n_layers in (1, 7, 61):
            assert found.members(n_layers, n_layers + 1) == again.members(n_layers, n_layers + 1)


def expression(data: bytes) -> None:
    """A condition; its canonical spelling has the same value."""
    with in_time(), suppress(QuantrecipeError):
        found = Expression.parse(text_of(data))
        again = Expression.parse(found.canonical)
        assert again.canonical == found.canonical
        assert again.evaluate(FACTS) == found.evaluate(FACTS)


def regex(data: bytes) -> None:
    """A regular expression, and the names that it is searched in."""
    with in_time(), suppress(QuantrecipeError):
        found = Regex.parse(text_of(data))
        assert [found.search(name) for name in NAMES] == [found.search(name) for name in NAMES]


def lists(data: bytes) -> None:
    """Lists and commands of other programs, alone."""
    text = text_of(data)
    for commas, words in ((False, False), (True, False), (False, True)):
        with in_time(), suppress(QuantrecipeError):
            read_list(text, "fuzz", commas=commas, words=words)
    with in_time(), suppress(QuantrecipeError):
        read_command(text, Path("/nonexistent"), file="fuzz")


def scripts(data: bytes) -> None:
    """Scripts of each shell: sh, cmd, PowerShell, or whichever the text shows."""
    ending = ("sh", "bat", "ps1", "txt")[data[0] % 4 if data else 0]
    with in_time(), suppress(QuantrecipeError):
        read_script(text_of(data[1:]), f"fuzz.{ending}")


def foreign(data: bytes) -> None:
    """What they become loads, and plans."""
    text = text_of(data[1:])
    given = model() if data[:1] > b"\x7f" else None
    with in_time(), suppress(QuantrecipeError):
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


def gguf(data: bytes) -> None:
    """The header of a GGUF, and the mix that is recovered from it."""
    with tempfile.NamedTemporaryFile(suffix=".gguf") as file:
        file.write(data)
        file.flush()
        path = Path(file.name)
        with in_time(), suppress(QuantrecipeError):
            read_header(path)
            recover(open_model(path, registry=registry()), registry(), name="fuzz", presets=False)


def shapes(data: bytes) -> None:
    """A shape file."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        file.write(data)
        file.flush()
        with in_time(), suppress(QuantrecipeError):
            recover(open_shapes(Path(file.name)), registry(), name="fuzz", presets=False)


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (recipe, rules, pattern, layers, expression, regex, lists, scripts, foreign, gguf, shapes)
}
