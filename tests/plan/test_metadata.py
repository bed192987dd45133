"""The output's key-value pairs: which there are, in which order, and what they are worth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.imatrix_files import write_gguf_imatrix
from support.models import llama_metadata, llama_tensors, write_gguf
from support.recipes import recipe, rule

from quantrecipe import __version__
from quantrecipe.errors import PlanError
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.importance.matrix import Importance
from quantrecipe.importance.read_importance import read_importance
from quantrecipe.model.model import Model
from quantrecipe.model.open_model import open_model
from quantrecipe.planning import make_plan
from quantrecipe.recipe.terms.layers import LayerSet
from quantrecipe.registry import Registry, load_registry

ORIGINAL = [
    "general.architecture",
    "llama.block_count",
    "llama.attention.head_count",
    "llama.attention.head_count_kv",
]


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


def text(value: str) -> GGUFValue:
    return GGUFValue.of(ValueType.STRING, value)


def u32(value: int) -> GGUFValue:
    return GGUFValue.of(ValueType.UINT32, value)


def model(folder: Path, **more: GGUFValue) -> Model:
    pairs = llama_metadata() | {key.replace("__", "."): value for key, value in more.items()}
    return open_model(write_gguf(folder / "m.gguf", llama_tensors(), pairs))


def importance(folder: Path, **facts: Any) -> Importance:
    entries = {"blk.0.attn_v.weight": (np.full((1, 256), 2, np.float32), [4.0])}
    return read_importance(write_gguf_imatrix(folder / "calibration.gguf", entries, **facts))


def metadata(of: Model, registry: Registry, mix: Any = None, **how: Any) -> dict[str, GGUFValue]:
    return dict(make_plan(mix or recipe(default="Q4_K"), of, registry=registry, **how).metadata)


def test_the_order(tmp_path: Path, registry: Registry) -> None:
    """What is set anew moves to the end, as in llama-quantize."""
    of = model(
        tmp_path, general__file_type=u32(32), general__quantization_version=u32(1), general__name=text("m")
    )
    mix = recipe(default="Q4_K", metadata={"llama.block_count": u32(2), "own.key": text("x")})
    found = metadata(of, registry, mix, importance=importance(tmp_path))
    assert list(found) == [
        *(key for key in ORIGINAL if key != "llama.block_count"),
        "general.name",
        *("general.quantization_version", "general.file_type", "llama.block_count", "own.key"),
        *(f"quantize.imatrix.{key}" for key in ("file", "dataset", "entries_count", "chunks_count")),
        *(
            f"quantrecipe.{key}"
            for key in ("version", "recipe.name", "recipe", "recipe.digest", "plan.digest")
        ),
        *("quantrecipe.importance.digest", "quantrecipe.encoding.xxh3_128"),
        *("quantrecipe.source.xxh3_128", "quantrecipe.data.xxh3_128", "quantrecipe.header.xxh3_64"),
    ]
    assert found["general.quantization_version"] == u32(2)
    assert found["general.file_type"] == u32(15)


def test_provenance(tmp_path: Path, registry: Registry) -> None:
    matrix = importance(tmp_path)
    mix = recipe(default="Q4_K", text="quantrecipe: 1\n", digest="d" * 32)
    plan = make_plan(mix, model(tmp_path), registry=registry, importance=matrix)
    found = plan.metadata
    assert found["quantrecipe.version"] == text(__version__)
    assert found["quantrecipe.recipe.name"] == text("test")
    assert found["quantrecipe.recipe"] == text("quantrecipe: 1\n")
    assert found["quantrecipe.recipe.digest"] == text("d" * 32)
    assert found["quantrecipe.plan.digest"] == text(plan.digest)
    assert found["quantrecipe.importance.digest"] == text(matrix.digest)
    assert found["quantrecipe.encoding.xxh3_128"].decode() == [a.encoding for a in plan.assignments]
    for key in ("source", "data"):
        assert found[f"quantrecipe.{key}.xxh3_128"].decode() == ["0" * 32] * len(plan.assignments)
    assert len(found["quantrecipe.header.xxh3_64"]) == len(found) - 1 + len(plan.assignments)


def test_provenance_of_the_source_and_its_shards_goes(tmp_path: Path, registry: Registry) -> None:
    of = model(
        tmp_path,
        quantrecipe__version=text("0.0.1"),
        quantrecipe__strange=text("x"),
        split__no=GGUFValue.of(ValueType.UINT16, 0),
        splitting=text("stays"),
    )
    found = metadata(of, registry, provenance=False)
    assert list(found) == [*ORIGINAL, "splitting", "general.quantization_version", "general.file_type"]
    assert metadata(of, registry)["quantrecipe.version"] == text(__version__)


class TestImportance:
    def test_what_llama_quantize_says_of_it(self, tmp_path: Path, registry: Registry) -> None:
        matrix = importance(tmp_path, datasets=("a.txt", "b.txt"), chunks=7)
        found = metadata(model(tmp_path), registry, importance=matrix)
        said = {key: value for key, value in found.items() if key.startswith("quantize.")}
        assert said == {
            "quantize.imatrix.file": text("calibration.gguf"),
            "quantize.imatrix.dataset": text("a.txt"),
            "quantize.imatrix.entries_count": u32(1),
            "quantize.imatrix.chunks_count": u32(7),
        }

    def test_what_it_doesn_t_say_is_left_out(self, tmp_path: Path, registry: Registry) -> None:
        found = metadata(model(tmp_path), registry, importance=importance(tmp_path, datasets=(), chunks=0))
        assert [key for key in found if key.startswith("quantize.")] == [
            "quantize.imatrix.file",
            "quantize.imatrix.entries_count",
        ]

    def test_entries_of_pruned_layers_are_counted_all_the_same(
        self, tmp_path: Path, registry: Registry
    ) -> None:
        """It says what the matrix had, as llama-quantize does."""
        mix = recipe(default="Q4_K", prune=LayerSet.parse("0"))
        found = metadata(model(tmp_path), registry, mix, importance=importance(tmp_path))
        assert found["quantize.imatrix.entries_count"] == u32(1)


class TestLayers:
    def test_the_count_of_layers_moves_to_the_end_where_some_are_pruned(
        self, tmp_path: Path, registry: Registry
    ) -> None:
        mix = recipe(default="Q4_K", prune=LayerSet.parse("0"))
        found = metadata(model(tmp_path), registry, mix, provenance=False)
        assert found["llama.block_count"] == u32(1)
        assert list(found) == [
            *(key for key in ORIGINAL if key != "llama.block_count"),
            *("general.quantization_version", "general.file_type", "llama.block_count"),
        ]


class TestFileType:
    @pytest.mark.parametrize(
        ("settings", "expected"),
        [
            ({"default": "Q6_K"}, 18),
            ({"default": "Q6_K", "file_type": "Q2_K", "file_type_fixed": True}, 10),
            ({"default": "Q6_K", "file_type": "Q2_K", "file_type_fixed": False}, 18),
            ({"default": "Q4_K", "file_type": "Q4_K_S", "file_type_fixed": False}, 14),
            ({"default": "BF16"}, 32),
        ],
    )
    def test_what_it_is(
        self, tmp_path: Path, registry: Registry, settings: dict[str, Any], expected: int
    ) -> None:
        assert metadata(model(tmp_path), registry, recipe(**settings))["general.file_type"] == u32(expected)

    @pytest.mark.parametrize(
        ("value", "expected"), [(u32(7), u32(7)), (text("seven"), u32(15)), (None, u32(15))]
    )
    def test_one_that_is_kept_is_the_source_s_if_it_is_a_number(
        self, tmp_path: Path, registry: Registry, value: GGUFValue | None, expected: GGUFValue
    ) -> None:
        of = model(tmp_path, **({} if value is None else {"general__file_type": value}))
        mix = recipe(default="Q4_K", file_type="keep", file_type_fixed=True)
        assert metadata(of, registry, mix)["general.file_type"] == expected

    def test_the_vote_is_of_weights_not_of_tensors(self, tmp_path: Path, registry: Registry) -> None:
        mix = recipe(rule("attn_*", "Q8_0"), rule("ffn_*", "Q5_K"), default="Q8_0")
        assert metadata(model(tmp_path), registry, mix)["general.file_type"] == u32(17)

    def test_an_unknown_one_is_named_with_those_that_are_known(
        self, tmp_path: Path, registry: Registry
    ) -> None:
        with pytest.raises(PlanError, match="unknown file_type 'Q9'; known: F32, F16, Q4_0") as error:
            metadata(model(tmp_path), registry, recipe(default="Q4_K", file_type="Q9"))
        assert error.value.problems[0].file == "recipe.yaml"
