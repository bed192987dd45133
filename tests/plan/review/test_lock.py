"""A lock says everything that differs, at once, and nothing that doesn't matter."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st
from support.imatrix_files import write_gguf_imatrix
from support.models import llama_metadata, llama_tensors, write_gguf

from quantrecipe.errors import ModelError, PlanError
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.importance.read_importance import read_importance
from quantrecipe.model.model import Model
from quantrecipe.model.open_model import open_model
from quantrecipe.plan.layout import SplitLimits
from quantrecipe.plan.review import lock as lock_module
from quantrecipe.plan.review.lock import (
    Lock,
    LockedTensor,
    compare_locks,
    make_lock,
    require_lock,
    require_same_tensors,
)
from quantrecipe.plan.review.lock_file import is_lock, lock_text, parse_lock, read_lock
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe_text
from quantrecipe.registry import Registry, load_registry

RECIPE = """\
quantrecipe: 1
name: mix
default: Q4_K
rules:
  - {tensors: attn_v, layers: first 2, type: Q6_K, why: values}
"""


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, registry: Registry) -> Model:
    path = tmp_path_factory.mktemp("model") / "model.gguf"
    write_gguf(path, llama_tensors(layers=12), llama_metadata(block_count=12))
    return open_model(path, registry=registry)


def lock_of(text: str, model: Model, registry: Registry, **how: object) -> Lock:
    recipe = load_recipe_text(text, registry=registry)
    return make_lock(make_plan(recipe, model, registry=registry, **how), registry)  # type: ignore[arg-type]  # passed on


def test_the_text_is_the_same_every_time_and_reads_back(model: Model, registry: Registry) -> None:
    lock = lock_of(RECIPE, model, registry)
    text = lock_text(lock)
    assert text == lock_text(lock_of(RECIPE, model, registry))
    again = parse_lock(text)
    assert again == lock
    assert lock_text(again) == text
    assert compare_locks(lock, again) == []


def test_it_is_compact(model: Model, registry: Registry) -> None:
    text = lock_text(lock_of(RECIPE, model, registry))
    assert (
        '{name = "blk.*.attn_v.weight", layers = "0-1", shape = [128, 256], from = "BF16", type = "Q6_K"}'
        in text
    )
    assert (
        '{name = "blk.*.attn_v.weight", layers = "2-11", shape = [128, 256], from = "BF16", type = "Q4_K"}'
        in text
    )
    assert len(text.splitlines()) < 60


def test_one_type_is_one_line_of_a_diff(model: Model, registry: Registry) -> None:
    before = lock_text(lock_of(RECIPE, model, registry)).splitlines()
    after = lock_text(lock_of(RECIPE.replace("Q6_K", "Q8_0"), model, registry)).splitlines()
    changed = [line for line in after if line not in before]
    assert len([line for line in changed if "blk." in line]) == 1
    assert len(changed) <= 7  # that, digests, sizes, bits per weight, the version of the format


def test_comments_reasons_and_layout_do_not_matter(model: Model, registry: Registry) -> None:
    other = "# a comment\n" + RECIPE.replace("why: values", f"why: {200 * 'values '}").replace(
        "Q4_K", "Q4_K  # half"
    )
    assert compare_locks(lock_of(RECIPE, model, registry), lock_of(other, model, registry)) == []


def test_every_difference_is_said(model: Model, registry: Registry, tmp_path: Path) -> None:
    lock = lock_of(RECIPE, model, registry)
    other = write_gguf(
        tmp_path / "m.gguf",
        llama_tensors(layers=12, hidden=256),
        llama_metadata(block_count=12, **{"attention.head_count": 8}),
        type_="F16",
    )
    changed = RECIPE.replace("first 2", "first 3")
    found = compare_locks(lock, lock_of(changed, open_model(other, registry=registry), registry))
    assert "blk.2.attn_v.weight: type locked Q4_K, now Q6_K" in found
    assert "blk.{0-11}.ffn_up.weight: shape locked 512×256, now 256×256" in found
    assert "blk.{0-11}.attn_q.weight: type in the model locked BF16, now F16" in found
    assert "the model's llama.attention.head_count: locked 4, now 8" in found
    assert any(line.startswith("what the recipe means (digest): locked") for line in found)


def test_a_rule_without_effect_is_another_recipe(model: Model, registry: Registry) -> None:
    other = RECIPE + "  - {tensors: ffn_up, type: Q4_K, why: as the default}\n"
    (said,) = compare_locks(lock_of(RECIPE, model, registry), lock_of(other, model, registry))
    assert said.startswith("what the recipe means")
    assert "though every tensor gets the same type" in said


def test_versions(model: Model, registry: Registry) -> None:
    lock = lock_of(RECIPE, model, registry)
    newer = replace(
        lock, distributions={"quantrecipe": "9.9"}, formats=dict(lock.formats) | {"Q6_K": 2}, plan_digest="x"
    )
    assert compare_locks(lock, newer) == [
        f"version of quantrecipe: locked {lock.distributions['quantrecipe']}, now 9.9",
        "encoder version of Q6_K: locked 1, now 2",
    ]


def test_importance_and_output(model: Model, registry: Registry, tmp_path: Path) -> None:
    entries = {t.name: (np.ones((1, t.cols), np.float32), [1.0]) for t in model.tensors if t.role == "attn_v"}
    matrix = read_importance(write_gguf_imatrix(tmp_path / "i.gguf", entries))
    lock = lock_of(RECIPE, model, registry)
    found = compare_locks(lock, lock_of(RECIPE, model, registry, importance=matrix))
    assert found[0] == f"importance matrix (digest): locked nothing, now {matrix.digest}"
    (said,) = compare_locks(lock, lock_of(RECIPE, model, registry, split=SplitLimits(max_tensors=60)))
    assert said.startswith("files of the output: locked")
    found = compare_locks(lock, lock_of(RECIPE, model, registry, provenance=False))
    assert "provenance recorded: locked yes, now no" in found


def test_metadata_of_the_same_value_and_another_type(model: Model, registry: Registry) -> None:
    other = dict(model.metadata) | {"llama.block_count": GGUFValue.of(ValueType.UINT64, 12)}
    (said,) = compare_locks(
        lock_of(RECIPE, model, registry), lock_of(RECIPE, replace(model, metadata=other), registry)
    )
    assert said.startswith("model's headers (digest)")


def test_refusal_names_the_file_and_the_remedy(model: Model, registry: Registry) -> None:
    recipe = load_recipe_text(RECIPE.replace("Q6_K", "Q8_0"), registry=registry)
    plan = make_plan(recipe, model, registry=registry)
    with pytest.raises(PlanError) as error:
        require_lock(lock_of(RECIPE, model, registry), plan, registry, file="mine.lock")
    problems = error.value.problems
    assert problems[0].what == "blk.{0-1}.attn_v.weight: type locked Q6_K, now Q8_0"
    assert {problem.file for problem in problems} == {"mine.lock"}
    assert "quantrecipe lock" in problems[-1].remedy
    require_lock(make_lock(plan, registry), plan, registry, file="mine.lock")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has version 'none' of the lock layout"),
        ("lock = 2\n", "has version 2"),
        ("lock = 1\n", "'recipe' is missing"),
        ("lock = [[[", "is no lock file"),
        ("x = " + "[" * 100_000, "is no lock file"),
    ],
)
def test_what_is_no_lock(text: str, said: str) -> None:
    with pytest.raises(PlanError) as error:
        parse_lock(text, file="mine.lock")
    assert str(error.value).startswith("mine.lock: ")
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('layers = "0-1"', 'layers = "0-999999999"'),
        ('layers = "0-1"', 'layers = "x"'),
        ('layers = "0-1"', 'layers = "1-0"'),
        ('layers = "0-1"', 'layers = "0-5"'),
        ("shape = [128, 256]", 'shape = ["a"]'),
        ('type = "Q6_K"', "type = 6"),
        ("[versions]", "[varsions]"),
    ],
)
def test_damaged_locks(model: Model, registry: Registry, before: str, after: str) -> None:
    text = lock_text(lock_of(RECIPE, model, registry))
    assert before in text
    with pytest.raises(PlanError, match=r"damaged lock file|no lock file"):
        parse_lock(text.replace(before, after, 1))


names = st.text(min_size=1, max_size=20)


@given(
    metadata=st.dictionaries(
        names, st.one_of(st.text(), st.integers(-(2**63), 2**64), st.booleans()), max_size=5
    ),
    tensors=st.dictionaries(
        st.one_of(names, st.builds("blk.{}.{}".format, st.integers(0, 10**8), names)),
        st.builds(
            LockedTensor,
            shape=st.lists(st.integers(1, 2**40), max_size=4).map(tuple),
            source=names,
            type=names,
            options=st.dictionaries(names, st.one_of(st.integers(), st.booleans(), st.text()), max_size=2),
            wanted=st.none() | names,
        ),
        max_size=8,
    ),
)
def test_any_names_survive_the_text(metadata: dict[str, object], tensors: dict[str, LockedTensor]) -> None:
    """Names and values come from files, and may be anything that is text."""
    lock = Lock(
        recipe='r\n"x',
        recipe_digest="0",
        arch="a",
        headers="h",
        metadata=metadata,
        importance=None,
        importance_file=None,
        distributions={"quantrecipe": "1"},
        formats={"Q4_K": 1},
        provenance=True,
        nbytes=3,
        files=((1, 2),),
        bits_per_weight=4.5,
        plan_digest="p",
        tensors=tensors,
    )
    assert parse_lock(lock_text(lock)) == lock


def test_files(tmp_path: Path, model: Model, registry: Registry) -> None:
    path = tmp_path / "mine.lock"
    path.write_text(lock_text(lock_of(RECIPE, model, registry)), encoding="utf-8")
    assert is_lock(str(path))
    assert read_lock(path).recipe == "mix"
    (tmp_path / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    assert not is_lock(str(tmp_path / "recipe.yaml"))
    assert not is_lock(str(tmp_path / "nothing"))
    with pytest.raises(PlanError, match="there is no such file"):
        read_lock(tmp_path / "nothing.lock")
    (tmp_path / "odd.lock").write_bytes(b"\xff\xfe")
    with pytest.raises(PlanError, match="UTF-8"):
        read_lock(tmp_path / "odd.lock")


class TestOneDifference:
    """Each field of a lock by itself, and in the words that people read."""

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"arch": "qwen3"}, "architecture: locked llama, now qwen3"),
            ({"importance": "i" * 32}, f"importance matrix (digest): locked nothing, now {'i' * 32}"),
            ({"provenance": False}, "provenance recorded: locked yes, now no"),
            ({"distributions": {"quantrecipe": "9.9"}}, "version of quantrecipe: locked {version}, now 9.9"),
            ({"formats": {"Q4_K": 7}}, "encoder version of Q4_K: locked 1, now 7"),
            ({"headers": "h" * 32}, "model's headers (digest): locked {headers}, now " + "h" * 32),
            (
                {"recipe_digest": "r" * 32},
                "what the recipe means (digest): locked {recipe}, now "
                + "r" * 32
                + ", though every tensor gets the same "
                "type",
            ),
            ({"plan_digest": "p" * 32}, "plan (digest): locked {plan}, now " + "p" * 32),
        ],
    )
    def test_is_told(self, model: Model, registry: Registry, change: dict[str, Any], said: str) -> None:
        lock = lock_of(RECIPE, model, registry)
        expected = said.format(
            version=lock.distributions["quantrecipe"],
            headers=lock.headers,
            recipe=lock.recipe_digest,
            plan=lock.plan_digest,
        )
        assert compare_locks(lock, replace(lock, **change)) == [expected]

    @pytest.mark.parametrize(
        "change",
        [
            {"nbytes": 5},
            {"bits_per_weight": 1.0},
            {"recipe": "another name"},
            {"importance_file": "elsewhere.gguf"},
            {"distributions": {}},
            {"formats": {}},
        ],
    )
    def test_or_makes_none(self, model: Model, registry: Registry, change: dict[str, Any]) -> None:
        """A plugin that isn't used any more, or sizes that follow from the files' headers."""
        lock = lock_of(RECIPE, model, registry)
        assert compare_locks(lock, replace(lock, **change)) == []

    def test_digests_that_follow_from_tensors_are_not_told_beside_them(
        self, model: Model, registry: Registry
    ) -> None:
        lock = lock_of(RECIPE, model, registry)
        name = "blk.0.attn_v.weight"
        tensors = {**lock.tensors, name: replace(lock.tensors[name], type="Q8_0")}
        other = replace(
            lock, tensors=tensors, files=((1, 2),), headers="h", plan_digest="p", recipe_digest="r" * 32
        )
        assert compare_locks(lock, other) == [
            "blk.0.attn_v.weight: type locked Q6_K, now Q8_0",
            f"what the recipe means (digest): locked {lock.recipe_digest}, now {'r' * 32}",
        ]

    def test_metadata(self, model: Model, registry: Registry) -> None:
        lock = lock_of(RECIPE, model, registry)
        pairs = {**lock.metadata, "llama.block_count": 13, "general.name": "new"}
        del pairs["llama.attention.head_count"]
        assert compare_locks(lock, replace(lock, metadata=pairs, headers="h")) == [
            "the model's general.name: locked nothing, now new",
            "the model's llama.attention.head_count: locked 4, now nothing",
            "the model's llama.block_count: locked 12, now 13",
        ]


class TestMetadata:
    """Numbers and short texts stand as they are, of all else a digest."""

    def readable(self, model: Model, registry: Registry, value: GGUFValue) -> Any:
        other = replace(model, metadata={**model.metadata, "x": value})
        return lock_of(RECIPE, other, registry).metadata["x"]

    @pytest.mark.parametrize(
        ("type_", "plain", "shown"),
        [
            (ValueType.UINT32, 7, 7),
            (ValueType.INT8, -7, -7),
            (ValueType.BOOL, True, True),
            (ValueType.FLOAT32, 0.1, "0.1"),
            (ValueType.FLOAT32, 1e-6, "1e-06"),
            (ValueType.FLOAT64, 0.1, "0.1"),
            (ValueType.FLOAT64, 1 / 3, "0.3333333333333333"),
            (ValueType.STRING, "short", "short"),
            (ValueType.STRING, "", ""),
        ],
    )
    def test_as_it_is(
        self, model: Model, registry: Registry, type_: ValueType, plain: Any, shown: Any
    ) -> None:
        found = self.readable(model, registry, GGUFValue.of(type_, plain))
        assert (type(found), found) == (type(shown), shown)

    @pytest.mark.parametrize(
        "value",
        [
            GGUFValue.of(ValueType.STRING, "x" * 5000),
            GGUFValue.of(ValueType.STRING, "two\nlines"),
            GGUFValue.array(ValueType.UINT32, [1, 2]),
            GGUFValue.array(ValueType.STRING, ["a"]),
        ],
    )
    def test_as_a_digest(self, model: Model, registry: Registry, value: GGUFValue) -> None:
        digest = xxhash.xxh3_64_hexdigest(bytes([value.type]) + value.payload)
        assert self.readable(model, registry, value) == f"xxh3:{digest}"

    def test_the_longest_text_that_stands_as_it_is(self, model: Model, registry: Registry) -> None:
        longest = lock_module._LONGEST_TEXT
        text = "x" * longest
        assert self.readable(model, registry, GGUFValue.of(ValueType.STRING, text)) == text
        assert self.readable(model, registry, GGUFValue.of(ValueType.STRING, text + "x")).startswith("xxh3:")


def test_the_lock_of_another_model(model: Model, registry: Registry) -> None:
    lock = lock_of(RECIPE, model, registry)
    require_same_tensors(lock, model, file="a.lock")
    less = replace(model, tensors=model.tensors[:3])
    require_same_tensors(lock, less, file="a.lock")  # some of its tensors, in the same shapes
    first = model.tensors[0]
    other = replace(model, tensors=(replace(first, shape=(1, 2)), *model.tensors[1:]))
    with pytest.raises(
        ModelError, match=rf"a\.lock: is the lock of another model: {first.name} has another shape"
    ):
        require_same_tensors(lock, other, file="a.lock")
    strangers = replace(model, tensors=tuple(replace(t, name=f"x.{t.name}") for t in model.tensors))
    with pytest.raises(ModelError, match=r"a\.lock: is of another model; lock the recipe with"):
        require_same_tensors(lock, strangers, file="a.lock")


def test_what_a_lock_is_made_of(model: Model, registry: Registry, tmp_path: Path) -> None:
    entries = {t.name: (np.ones((1, t.cols), np.float32), [1.0]) for t in model.tensors if t.role == "attn_v"}
    matrix = read_importance(write_gguf_imatrix(tmp_path / "i.gguf", entries))
    recipe = load_recipe_text(RECIPE, registry=registry)
    plan = make_plan(recipe, model, registry=registry, importance=matrix, split=SplitLimits(max_tensors=60))
    lock = make_lock(plan, registry)
    assert (lock.recipe, lock.recipe_digest, lock.plan_digest) == ("mix", recipe.digest, plan.digest)
    assert (lock.importance, lock.importance_file) == (matrix.digest, "i.gguf")
    assert lock.formats == {"Q4_K": 1, "Q6_K": 1}
    assert lock.files == tuple((it.nbytes - it.header, len(it.assignments)) for it in plan.files)
    assert (lock.nbytes, lock.bits_per_weight) == (plan.nbytes, round(plan.bits_per_weight, 4))
    assert list(lock.tensors) == [a.tensor.name for a in plan.assignments]
    assert lock.tensors["blk.0.attn_v.weight"] == LockedTensor(shape=(128, 256), source="BF16", type="Q6_K")
    assert list(lock.metadata) == sorted(model.metadata)
    assert list(lock.distributions) == ["quantrecipe"]
