"""Recipes that are made to do harm: bombs, depth, size, exponential patterns, odd files. They are refused, quickly.

Each takes some tenths of a second; the bound leaves room for slow machines. tests/fuzz looks for more of them.
"""

from __future__ import annotations

import os
import string
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples

from quantrecipe.errors import PlanError, QuantrecipeError, RecipeError
from quantrecipe.model.shapes import open_shapes
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe, load_recipe_text
from quantrecipe.recipe.terms.expression import Expression
from quantrecipe.recipe.terms.layers import LayerSet
from quantrecipe.recipe.terms.pattern import Pattern
from quantrecipe.recipe.terms.regex import Regex
from quantrecipe.registry import Registry

ZOO = Path(__file__).parents[1] / "data/shapes/zoo"
MIB = 1 << 20
HEAD = "quantrecipe: 1\n"
SECONDS = 5.0
MOST_MEMORY = 300 * MIB
TEN_DIGITS = "{0,1,2,3,4,5,6,7,8,9}"
LETTERS = "".join(f"{char}?.?" for char in string.ascii_lowercase)


def rules(count: int, rule: Callable[[int], str]) -> str:
    return HEAD + "rules:\n" + "".join(f"- {rule(i)}\n" for i in range(count))


SIZE = {
    "ten megabytes": "#" * (10 * MIB),
    "a list": HEAD + "rules: [" + "a," * (MIB // 2 - 60) + "]",
    "depth": HEAD + "rules: " + "[" * (MIB - 60),
    "depth of mappings": HEAD + "rules: " + "{a: " * (MIB // 4 - 60),
    "complex keys": HEAD + "? " * (MIB // 2 - 60),
    "dashes": HEAD + "- " * (MIB // 2 - 60),
    "a long text": HEAD + "name: " + "a " * (MIB // 2 - 60),
    "a long key": HEAD + "a" * (MIB - 60) + ": 1",
    "a long number": HEAD + "metadata: {a.b: " + "9" * (MIB - 100) + "}",
    "a long tag": HEAD + "name: " + "!" * (MIB - 60),
    "escapes": HEAD + 'name: "' + "\\x41" * (MIB // 4 - 60) + '"',
    "anchors": HEAD + "&a " * (MIB // 3 - 60),
    "an alias bomb": "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nd: &d [*c, *c]\n",
    "merge keys": HEAD + "a: &a {b: 1}\nc: {<<: *a}\n",
    "documents": "---\n" * (MIB // 4),
    "keys": HEAD + "".join(f"k{i}: 1\n" for i in range(80_000)),
    "the same key": HEAD + "rules: [{" + "tensors: a, " * 20_000 + "}]",
}
WORK = {
    "a long expression": HEAD + 'rules: [{tensors: a, when: "' + "1+" * 500_000 + '1 > 0", type: F32}]',
    "a deep expression": HEAD
    + 'rules: [{tensors: a, when: "'
    + "(" * 900
    + "1"
    + ")" * 900
    + ' > 0", type: F32}]',
    "not not not": HEAD + 'rules: [{tensors: a, when: "' + "not " * 450 + 'True", type: F32}]',
    "a power": HEAD + 'rules: [{tensors: a, when: "9**9**9 > 0", type: F32}]',
    "facts that double": HEAD
    + "facts:\n  a0: layer\n"
    + "".join(f"  a{i + 1}: a{i}+a{i}\n" for i in range(60)),
    "facts in a chain": HEAD
    + "facts:\n  a0: layer\n"
    + "".join(f"  a{i + 1}: a{i}+1\n" for i in range(2000)),
    "braces": rules(1, lambda i: f'{{tensors: "{TEN_DIGITS * 6}", type: F32}}'),
    "deep braces": rules(1, lambda i: f'{{tensors: "{"{a," * 300}{"}" * 300}", type: F32}}'),
    "long names in braces": rules(
        500, lambda i: f'{{tensors: "{"a" * 1800}{i}{TEN_DIGITS * 3}", type: F32}}'
    ),
    "many braces": rules(300, lambda i: f'{{tensors: "{TEN_DIGITS * 3}{i}*", type: F32}}'),
    "stars": rules(400, lambda i: f'{{tensors: "{"*a" * 900}{i}", type: F32}}'),
    "stars in braces": rules(200, lambda i: f'{{tensors: "{"{*a,*b,*c}" * 6}*{i}", type: F32}}'),
    "patterns": HEAD + "rules: [{tensors: [" + ",".join(f"a{i}" for i in range(5000)) + "], type: F32}]",
    "rules": rules(4500, lambda i: "{tensors: a, type: F32}"),
    "a group, often": HEAD
    + "groups:\n  g: ["
    + ",".join(f"b{i}" for i in range(1000))
    + "]\nrules:\n"
    + "- {tensors: [group:g, group:g, group:g, group:g], type: F32}\n" * 300,
    "repeated repetitions": rules(
        1, lambda i: "{tensors: 'regex:((((a{999}){999}){999}){999}){999}', type: F32}"
    ),
    "empty repetitions": rules(1, lambda i: "{tensors: 'regex:(((){999}){999}){999}', type: F32}"),
    "deep parentheses": rules(1, lambda i: "{tensors: 'regex:" + "(" * 3000 + "', type: F32}"),
    "wide expressions": rules(300, lambda i: f"{{tensors: 'regex:({LETTERS}){{38}}z{i}', type: F32}}"),
    "layers": rules(
        2000, lambda i: '{tensors: "*", layers: "' + ", ".join(map(str, range(390))) + '", type: F32}'
    ),
    "huge layers": rules(1, lambda i: "{tensors: a, layers: '0-9999999999', type: F32}"),
    "kept lists": HEAD + "keep:\n" + "- llama.cpp/kept\n" * 500,
    "parents": HEAD + "extends: [" + "llama.cpp/Q4_K_M," * 5000 + "]",
    "missing parents": HEAD + "extends: [" + ",".join(f"none{i}.yaml" for i in range(5000)) + "]",
    "unknown keys": HEAD + "".join(f"klef{i}: 1\n" for i in range(2000)),
    "unknown types": rules(500, lambda i: f"{{tensors: a, type: Q4_{i}}}"),
    "a layout of options": HEAD + "rules: [{tensors: a, type: Q8_0, options: {" + "a: 1, " * 20_000 + "}}]",
}


def most_memory() -> int:
    """The most bytes that this process has held at once."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource  # Unix's

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@contextmanager
def within_bounds() -> Iterator[None]:
    memory, start = most_memory(), time.process_time()
    yield
    assert time.process_time() - start < SECONDS
    assert most_memory() - memory < MOST_MEMORY


def test_the_bound_of_memory_is_in_bytes() -> None:
    """Linux counts pages in two ways, of which one lags behind: half is a bound that a wrong unit can't meet."""
    assert psutil.Process().memory_info().rss / 2 < most_memory() < psutil.virtual_memory().total


needs_devices = pytest.mark.skipif(
    not hasattr(os, "mkfifo"), reason="this system has no pipes and devices as files"
)


@pytest.mark.parametrize("name", [*SIZE, *WORK])
@pytest.mark.slow
def test_bombs_are_refused_quickly(name: str, registry: Registry) -> None:
    with within_bounds(), pytest.raises(RecipeError) as caught:
        load_recipe_text({**SIZE, **WORK}[name], registry=registry)
    assert len(caught.value.problems) <= 300
    assert len(str(caught.value)) < 200_000


PLANS = {
    "wide expressions": rules(20, lambda i: f"{{tensors: 'regex:({LETTERS}){{38}}z{i}', type: F32}}"),
    "many expressions": rules(500, lambda i: f"{{tensors: 'regex:.*a[a-z_]*.*{i}', type: F32}}"),
    "conditions": rules(
        45,
        lambda i: (
            '{tensors: "*", when: "'
            + " or ".join(["layer*rows > 10**0"[:16]] * 90)
            + f' or layer > {i}", type: F32}}'
        ),
    ),
    "patterns": rules(3000, lambda i: f"{{tensors: a{i}, type: F32}}"),
    "layers": rules(
        90,
        lambda i: (
            '{tensors: "*", optional: true, layers: "'
            + ", ".join(map(str, range(i, i + 390)))
            + '", type: F32}'
        ),
    ),
    "a large product": HEAD
    + 'rules: [{tensors: a, when: "'
    + "*".join(["9999999"] * 40)
    + ' > 0", type: F32}]',
    "pruned": HEAD + 'prune: "0-999999"\n',
    "large numbers": rules(
        1, lambda i: '{tensors: "*", when: "rows*cols*rows*cols*rows*cols*rows > 0", type: F32}'
    ),
    "division by zero": rules(1, lambda i: '{tensors: "*", when: "rows // (layer - layer) > 0", type: F32}'),
}


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.slow
def test_plans_of_the_worst_recipes_that_load_are_bounded(name: str, registry: Registry) -> None:
    model = open_shapes(ZOO / "qwen3moe-48.json")
    with within_bounds(), suppress(PlanError, RecipeError):
        make_plan(load_recipe_text(PLANS[name], registry=registry), model, registry=registry)


class TestFiles:
    """What `extends`, `keep` and the command line may name."""

    def refused(self, path: Path, text: str, registry: Registry) -> str:
        path.write_text(HEAD + text)
        with within_bounds(), pytest.raises(QuantrecipeError) as caught:
            load_recipe(path, registry=registry)
        return str(caught.value)

    @needs_devices
    @pytest.mark.parametrize("key", ["extends", "protect", "keep"])
    def test_pipes_devices_and_folders_are_no_recipes(
        self, key: str, tmp_path: Path, registry: Registry
    ) -> None:
        os.mkfifo(tmp_path / "pipe.yaml")
        (tmp_path / "folder.yaml").mkdir()
        (tmp_path / "zero.yaml").symlink_to("/dev/zero")
        (tmp_path / "loop.yaml").symlink_to(tmp_path / "loop.yaml")
        (tmp_path / "gone.yaml").symlink_to("nowhere.yaml")
        names = ["pipe.yaml", "folder.yaml", "zero.yaml", "loop.yaml", "gone.yaml", "x" * 400 + ".yaml"]
        said = self.refused(tmp_path / "recipe.yaml", f"{key}: [{', '.join(names)}]\n", registry)
        assert said.count("there is no recipe file") == len(names)

    @needs_devices
    @pytest.mark.parametrize("name", ["pipe.yaml", "zero.yaml", "folder.yaml"])
    def test_nor_are_they_on_the_command_line(self, name: str, tmp_path: Path, registry: Registry) -> None:
        os.mkfifo(tmp_path / "pipe.yaml")
        (tmp_path / "folder.yaml").mkdir()
        (tmp_path / "zero.yaml").symlink_to("/dev/zero")
        with within_bounds(), pytest.raises(RecipeError):
            load_recipe(tmp_path / name, registry=registry)

    def test_a_file_that_grows_without_end_is_cut(self, tmp_path: Path, registry: Registry) -> None:
        with (tmp_path / "sparse.yaml").open("wb") as file:
            file.truncate(1 << 40)
        assert "more than 1 MiB" in self.refused(tmp_path / "recipe.yaml", "extends: sparse.yaml\n", registry)

    def test_what_is_no_recipe_is_not_quoted(self, tmp_path: Path, registry: Registry) -> None:
        """A recipe can name a file that its author can't read; the error must not read it to them."""
        (tmp_path / "secret.yaml").write_text("hunter2:xyzzy\nroot:x:0:0\n")
        assert "hunter2" not in self.refused(tmp_path / "recipe.yaml", "extends: secret.yaml\n", registry)
        for name in (
            "/etc/passwd",
            "../../../../etc/passwd",
            "file:///etc/passwd",
            "~/x.yaml",
            "llama.cpp/../../../x",
        ):
            said = self.refused(tmp_path / "recipe.yaml", f"extends: {name}\n", registry)
            assert "root:" not in said

    def test_many_large_files_are_refused_together(self, tmp_path: Path, registry: Registry) -> None:
        for i in range(60):
            (tmp_path / f"p{i}.yaml").write_text(HEAD + "#" * (MIB - 100) + f"\nextends: p{i + 1}.yaml\n")
        (tmp_path / "p60.yaml").write_text(HEAD)
        said = self.refused(tmp_path / "recipe.yaml", "extends: p0.yaml\n", registry)
        assert "have more than 2 MiB" in said

    def test_kept_lists_that_double(self, tmp_path: Path, registry: Registry) -> None:
        for i in range(50):
            (tmp_path / f"p{i}.yaml").write_text(HEAD + f"keep: [p{i + 1}.yaml, p{i + 1}.yaml]\n")
        (tmp_path / "p50.yaml").write_text(HEAD + "keep: [{tensors: a, why: b}]\n")
        assert "too much work" in self.refused(tmp_path / "recipe.yaml", "keep: [p0.yaml]\n", registry)


ALPHABET = st.text(
    st.sampled_from("ab_.*?[]{}!,-0123456789 ()|^$+\\regexhd:%nlayrsfitm/'\"<=>"), max_size=120
)


@settings(max_examples=examples(200), deadline=None)
@given(text=ALPHABET)
def test_any_text_is_a_value_or_an_error(text: str) -> None:
    """Patterns, regular expressions, layers and conditions; and what loads, answers."""
    for parse, ask in (
        (Pattern.parse, str),
        (Regex.parse, lambda it: it.search("blk.10.ffn_down_exps.weight")),
        (LayerSet.parse, lambda it: it.members(64, 66)),
        (Expression.parse, lambda it: it.canonical),
    ):
        try:
            found = parse(text)  # type: ignore[operator]
        except RecipeError as error:
            assert all(problem.what for problem in error.problems)
        else:
            ask(found)


YAML = st.text(st.sampled_from("ab:-[]{},#&*!|>'\"%@` \n?\t~0123\\"), max_size=80)


@settings(max_examples=examples(100), deadline=None)
@given(head=st.sampled_from(["", HEAD, HEAD + "rules:\n", HEAD + "rules: [{tensors: "]), text=YAML)
def test_any_text_is_a_recipe_or_an_error_with_a_place(head: str, text: str, registry: Registry) -> None:
    try:
        load_recipe_text(head + text, registry=registry)
    except RecipeError as error:
        assert all(problem.file for problem in error.problems)
