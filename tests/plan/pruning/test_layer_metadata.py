"""What the metadata says of the layers that are left after pruning."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.recipes import recipe

from quantrecipe.errors import PlanError
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.model.model import Model
from quantrecipe.planning import make_plan
from quantrecipe.recipe.metadata import METADATA_TYPES
from quantrecipe.recipe.terms.layers import LayerSet
from quantrecipe.registry import Registry, load_registry
from quantrecipe.tensor import TensorInfo


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


def value(given: Any) -> GGUFValue:
    """A GGUF value; ("u8", 3) and ("f32", [1.0]) say the type, else a number is u32 and true and false are bool."""
    type_, plain = given if isinstance(given, tuple) else ("", given)
    first = plain[0] if isinstance(plain, list) else plain
    kind = METADATA_TYPES[type_] if type_ else (
        ValueType.BOOL if isinstance(first, bool) else ValueType.STRING if isinstance(first, str) else ValueType.UINT32
    )  # fmt: skip
    return GGUFValue.array(kind, plain) if isinstance(plain, list) else GGUFValue.of(kind, plain)


def model(arch: str = "llama", layers: int = 4, *, extra: tuple[str, ...] = (), **hyper: Any) -> Model:
    """So many layers of one matrix; `attention__head_count=4` is `llama.attention.head_count`."""
    names = ["token_embd.weight", *(f"blk.{i}.attn_v.weight" for i in range(layers)), *extra]
    pairs = {"general.architecture": value(arch), f"{arch}.block_count": value(layers)}
    pairs |= {f"{arch}.{key.replace('__', '.')}": value(plain) for key, plain in hyper.items()}
    return Model(
        path=Path("model.gguf"),
        container="shapes",
        arch=arch,
        tensors=tuple(TensorInfo.from_name(name, (64, 256), "BF16") for name in names),
        metadata=pairs,
        sources={},
    )


def pruned(of: Model, layers: str, registry: Registry, **metadata: Any) -> dict[str, Any]:
    """The output's metadata, without the architecture's name."""
    given = {f"{of.arch}.{key.replace('__', '.')}": value(plain) for key, plain in metadata.items()}
    plan = make_plan(
        recipe(default="BF16", prune=LayerSet.parse(layers), metadata=given),
        of,
        registry=registry,
        provenance=False,
    )
    return {key.removeprefix(f"{of.arch}."): value.decode() for key, value in plan.metadata.items()}


@pytest.mark.parametrize(
    ("key", "before", "after"),
    [
        ("attention.head_count_kv", [2, 1, 4, 8], [2, 4, 8]),
        ("feed_forward_length", ("i32", [10, 11, 12, 13]), [10, 12, 13]),
        ("attention.sliding_window_pattern", [True, False, True, False], [True, True, False]),
        ("swiglu_clamp_exp", ("f32", [0.5, 1.5, 2.5, 3.5]), [0.5, 2.5, 3.5]),
        ("expert_used_count", [2, 3, 4, 5], [2, 4, 5]),
        ("rope.freq_base", ("f32", [1.0, 2.0, 3.0, 4.0]), [1.0, 3.0, 4.0]),
        ("ple.layers", [1, 3], [2]),
    ],
)
def test_items_of_pruned_layers_go(key: str, before: Any, after: list[Any], registry: Registry) -> None:
    of = model(**{key: before})
    found = make_plan(
        recipe(default="BF16", prune=LayerSet.parse("1")), of, registry=registry, provenance=False
    )
    new = found.metadata[f"llama.{key}"]
    assert new.decode() == after
    assert new.item_type is of.metadata[f"llama.{key}"].item_type
    assert list(found.metadata)[:3] == [
        "general.architecture",
        f"llama.{key}",
        "general.quantization_version",
    ]


def test_keys_that_are_whole(registry: Registry) -> None:
    of = model("apertus")
    pairs = {**of.metadata, "xielu.beta": value(("f32", [0.5, 1.5, 2.5, 3.5]))}
    assert pruned(replace_metadata(of, pairs), "0", registry)["xielu.beta"] == [1.5, 2.5, 3.5]


@pytest.mark.parametrize(
    ("key", "plain"),
    [
        ("rope.dimension_sections", [16, 24, 24, 0]),
        ("classifier.output_labels", ["a", "b", "c", "d"]),
        ("vision.block_count", 4),
        ("attention.head_count", 8),
        ("tokenizer", "x"),
    ],
)
def test_what_is_not_about_layers_stays(key: str, plain: Any, registry: Registry) -> None:
    assert pruned(model(**{key: plain}), "1", registry)[key] == plain


def test_other_arrays_of_as_many_items_stay(registry: Registry) -> None:
    of = model()
    pairs = {
        **of.metadata,
        "tokenizer.ggml.tokens": value(["a", "b", "c", "d"]),
        "general.tags": value(["1", "2", "3", "4"]),
    }
    found = pruned(replace_metadata(of, pairs), "1", registry)
    assert found["tokenizer.ggml.tokens"] == ["a", "b", "c", "d"]
    assert found["general.tags"] == ["1", "2", "3", "4"]


def test_layers_for_next_token_prediction(registry: Registry) -> None:
    of = model("glm4moe", 5, nextn_predict_layers=1, attention__indexer__types=[1, 2, 3, 4],
               feed_forward_length=[1, 2, 3, 4, 5])  # fmt: skip
    kept = pruned(of, "1", registry)
    assert (kept["block_count"], kept["nextn_predict_layers"]) == (4, 1)
    assert (kept["attention.indexer.types"], kept["feed_forward_length"]) == ([1, 3, 4], [1, 3, 4, 5])
    without = pruned(of, "4", registry)
    assert (without["block_count"], without["nextn_predict_layers"]) == (4, 0)
    assert (without["attention.indexer.types"], without["feed_forward_length"]) == (
        [1, 2, 3, 4],
        [1, 2, 3, 4],
    )


@pytest.mark.parametrize(
    ("hyper", "layers", "after"),
    [
        ({"leading_dense_block_count": 2}, "0", {"leading_dense_block_count": 1}),
        ({"leading_dense_block_count": 2}, "3", {"leading_dense_block_count": 2}),
        ({"hash_layer_count": ("u8", 3)}, "0, 2", {"hash_layer_count": 1}),
        ({"attention__shared_kv_layers": 1}, "0", {"attention.shared_kv_layers": 1}),
        ({"attention__shared_kv_layers": 1}, "3", {"attention.shared_kv_layers": 0}),
    ],
)
def test_numbers_that_count_layers_follow(
    hyper: dict[str, Any], layers: str, after: dict[str, int], registry: Registry
) -> None:
    found = pruned(model("deepseek2", **hyper), layers, registry)
    assert {key: found[key] for key in after} == after


@pytest.mark.parametrize(
    ("of", "layers", "named"),
    [
        (model(attention__head_count_kv=[1, 2, 3]), "1", "llama.attention.head_count_kv has an item for each"),
        (model(attention__odd=[1, 2, 3, 4]), "1", "llama.attention.odd has 4 items"),
        (model(odd_layer_step=2), "1", "llama.odd_layer_step may count layers"),
        (model(odd_block_step=2), "1", "llama.odd_block_step may count layers"),
        (model(leading_dense_block_count=("f32", 1.0)), "1", "leading_dense_block_count counts layers, but"),
        (model("qwen3vl", n_deepstack_layers=2), "1", "qwen3vl.n_deepstack_layers"),
        (model("granite", deepstack_mapping=("i32", [-1, 0, 1, -1])), "2", "granite.deepstack_mapping"),
        (model("gemma4", attention__shared_kv_layers=1), "2", "gemma4.attention.shared_kv_layers"),
        (model("rwkv6", rescale_every_n_layers=6), "1", "rwkv6.rescale_every_n_layers"),
        (model("rwkv7"), "0", "layer 0 of rwkv7"),
        (model("minimax-01"), "3", "layers of minimax-01"),
        (model("gemma3n", extra=("per_layer_token_embd.weight",)), "3", "per_layer_token_embd.weight has a part"),
        (model("exaone4", 64), "1", "how many layers a exaone4"),
        (model("llama4", interleave_moe_layer_step=2), "0", "llama4.interleave_moe_layer_step"),
        (model("nomic-bert-moe", moe_every_n_layers=2), "0", "nomic-bert-moe.moe_every_n_layers"),
        (model("smollm3", 8), "2", "the architecture smollm3 says"),
        (model("llama4", 8), "2", "the architecture llama4 says"),
        (model("qwen3next", 8), "2", "qwen3next.full_attention_interval"),
        (model("gemma3", 12, attention__sliding_window=512), "2", "gemma3.attention.sliding_window_pattern"),
        (model("cohere2", 8, attention__sliding_window=512, attention__sliding_window_pattern=2), "2",
         "cohere2.attention.sliding_window_pattern"),
    ],
)  # fmt: skip
def test_what_the_file_can_not_say_any_more_is_refused_by_name(
    of: Model, layers: str, named: str, registry: Registry
) -> None:
    with pytest.raises(PlanError) as refused:
        pruned(of, layers, registry)
    assert named in str(refused.value)
    assert all(problem.remedy and problem.file == "recipe.yaml" for problem in refused.value.problems)


def test_all_problems_at_once(registry: Registry) -> None:
    with pytest.raises(PlanError) as refused:
        pruned(model(feed_forward_length=[1, 2], odd=[1, 2, 3, 4], layer_thing=3), "1", registry)
    assert len(refused.value.problems) == 3


@pytest.mark.parametrize(
    ("of", "layers"),
    [
        (model("gemma3", 12, attention__sliding_window=512), "6-11"),
        (model("gemma3", 12, attention__sliding_window=512), "0-5"),
        (model("gemma3", 12, attention__sliding_window=512), "11"),
        (model("gemma3", 12), "3"),  # no window
        (model("qwen3next", 8), "0-3"),
        (model("llama4", 8, interleave_moe_layer_step=1, attention__sliding_window=0), "0"),
        (model("smollm3", 8), "4-7"),
        (model("exaone4", 30), "1"),
        (model("rwkv6", rescale_every_n_layers=6), "3"),
        (model("rwkv7"), "3"),
    ],
)
def test_patterns_that_stay_true(of: Model, layers: str, registry: Registry) -> None:
    left = len({t.layer for t in of.tensors if t.layer is not None}) - len(
        LayerSet.parse(layers).members(len(of.tensors) - 1)
    )
    assert pruned(of, layers, registry)["block_count"] == left


def test_the_recipe_answers_for_what_it_sets(registry: Registry) -> None:
    gemma = model("gemma3", 6, attention__sliding_window=512)
    with pytest.raises(PlanError) as refused:
        pruned(gemma, "0", registry)
    (problem,) = refused.value.problems
    line = "metadata: {gemma3.attention.sliding_window_pattern: [1, 1, 1, 1, 0]}"
    assert line in problem.remedy
    found = pruned(gemma, "0", registry, attention__sliding_window_pattern=[1, 1, 1, 1, 0])
    assert found["attention.sliding_window_pattern"] == [1, 1, 1, 1, 0]
    odd = model(odd=[1, 2, 3, 4], feed_forward_length=[1, 2])
    found = pruned(odd, "0", registry, odd=[2, 3, 4], feed_forward_length=7)
    assert (found["odd"], found["feed_forward_length"]) == ([2, 3, 4], 7)


def test_hybrid_models_say_their_pattern_as_an_array(registry: Registry) -> None:
    of = model("qwen35", 4, attention__recurrent_layers=[1, 1, 0, 1], full_attention_interval=4)
    assert pruned(of, "1", registry)["attention.recurrent_layers"] == [1, 0, 1]


def test_a_layer_without_tensors_keeps_its_place(registry: Registry) -> None:
    of = model("deci", 4, attention__head_count=[4, 0, 4, 8])
    of = replace_metadata(of, of.metadata, tensors=tuple(t for t in of.tensors if t.layer != 1))
    plan = make_plan(
        recipe(default="BF16", prune=LayerSet.parse("0")), of, registry=registry, provenance=False
    )
    assert [a.tensor.name for a in plan.assignments if a.tensor.layer is not None] == [
        "blk.1.attn_v.weight",
        "blk.2.attn_v.weight",
    ]
    assert plan.metadata["deci.attention.head_count"].decode() == [0, 4, 8]
    assert plan.metadata["deci.block_count"].decode() == 3


@pytest.mark.parametrize(
    ("of", "layers", "said"),
    [
        (model(), "0-3", "leaves no layer"),
        (model(), "4", "the model has layers 0-3"),
        (model("t5", 0, extra=("enc.blk.0.attn_q.weight",)), "0", "layers called blk.0"),
    ],
)
def test_layers_that_are_not_there(of: Model, layers: str, said: str, registry: Registry) -> None:
    with pytest.raises(PlanError, match=said):
        pruned(of, layers, registry)


def test_memory_is_that_of_the_layers_that_are_left(registry: Registry) -> None:
    """A budget of memory counts the KV cache with the windows of the layers that are left."""
    of = model("gemma4", 4, attention__sliding_window=512, attention__sliding_window_pattern=[1, 0, 1, 0])
    plan = make_plan(recipe(default="BF16", prune=LayerSet.parse("0")), of, registry=registry)
    written = plan.written.metadata["gemma4.attention.sliding_window_pattern"].decode()
    assert written == [0, 1, 0]
    assert plan.model.metadata["gemma4.attention.sliding_window_pattern"].decode() == [1, 0, 1, 0]


def replace_metadata(of: Model, pairs: Any, **rest: Any) -> Model:
    """The same model with other metadata."""
    return replace(of, metadata=pairs, **rest)
