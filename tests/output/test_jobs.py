"""Which jobs share a encoding, and where its companions go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.imatrix_files import write_gguf_imatrix
from support.models import llama_tensors, write_gguf
from support.recipes import recipe, rule

from quantrecipe.importance.read_importance import read_importance
from quantrecipe.model.open_model import open_model
from quantrecipe.model.source.source import Extent
from quantrecipe.output.jobs import Job, encodings_of, jobs_by_tensor
from quantrecipe.output.reuse import OldTensor
from quantrecipe.planning import make_plan
from quantrecipe.registry import Registry, load_registry

NAME = "blk.0.attn_v.weight"
OLD = OldTensor(extent=Extent(path=Path("old"), offset=0, nbytes=1), encoding="e", source="s", data="d")


class Nowhere:
    def write(self, data: memoryview, offset: int) -> None: ...


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


@pytest.fixture
def jobs(tmp_path: Path, registry: Registry) -> Any:
    """Of several recipes, one output each. weighted: numbers of those that are given importance."""
    model = open_model(write_gguf(tmp_path / "m.gguf", llama_tensors(layers=1)))
    entries = {NAME: (np.arange(1, 257, dtype=np.float32).reshape(1, 256), [1.0])}
    importance = read_importance(write_gguf_imatrix(tmp_path / "i.gguf", entries))

    def made(*mixes: Any, weighted: tuple[int, ...] = (), old: tuple[int, ...] = ()) -> Any:
        found = []
        for number, mix in enumerate(mixes):
            given = importance if number in weighted else None
            plan = make_plan(mix, model, registry=registry, importance=given)
            found += [
                Job(
                    assignment=a,
                    sink=Nowhere(),
                    importance=given,
                    output=number,
                    old=OLD if number in old else None,
                )
                for a in plan.assignments
            ]
        return jobs_by_tensor(found)

    return made


def outputs(encodings: Any) -> list[list[int]]:
    return [[job.output for job in encoding.jobs] for encoding in encodings]


def test_who_wants_the_same_shares_it(jobs: Any) -> None:
    q4, q5 = recipe(default="Q4_K"), recipe(default="Q5_K")
    encodings = encodings_of(NAME, jobs(q4, q5, q4, recipe(rule("attn_v", "Q5_K"), default="Q4_K")))
    assert outputs(encodings) == [[0, 2], [1, 3]]
    assert [encoding.format.spec.name for encoding in encodings] == ["Q4_K", "Q5_K"]
    assert not any(encoding.copied for encoding in encodings)
    assert encodings_of(NAME, jobs(recipe(default="BF16")))[0].copied


def test_importance_is_another_encoding_where_the_format_uses_it(jobs: Any) -> None:
    mix, plain = recipe(default="Q4_K"), recipe(default="Q8_0")
    bare, weighted = encodings_of(NAME, jobs(mix, mix, weighted=(1,)))
    assert bare.importance is None
    assert np.array_equal(weighted.importance, np.arange(1, 257, dtype=np.float32).reshape(1, 256))
    (both,) = encodings_of(NAME, jobs(plain, plain, weighted=(1,)))
    assert outputs([both]) == [[0, 1]]
    assert both.importance is None


def test_an_older_file_of_any_of_them_will_do(jobs: Any) -> None:
    mix = recipe(default="Q4_K")
    (encoding,) = encodings_of(NAME, jobs(mix, mix, old=(1,)))
    assert encoding.old is OLD
    (encoding,) = encodings_of(NAME, jobs(mix, mix))
    assert encoding.old is None


@pytest.mark.parametrize("type_", ["BF16", "NVFP4"])
def test_what_is_copied_or_has_factors_isn_t_taken_from_an_older_file(jobs: Any, type_: str) -> None:
    (encoding,) = encodings_of(NAME, jobs(recipe(default=type_), old=(0,)))
    assert encoding.old is None


def test_factors_go_where_their_matrices_go(jobs: Any) -> None:
    """An output that has the factors of another matrix only isn't among them."""
    fp4 = recipe(rule("attn_v", "NVFP4"), default="Q8_0")
    (first, second) = encodings_of(NAME, jobs(fp4, recipe(default="Q8_0"), fp4))
    assert outputs([first, second]) == [[0, 2], [1]]
    assert [(job.tensor, job.output) for job in first.companions] == [
        ("blk.0.attn_v.scale", 0),
        ("blk.0.attn_v.scale", 2),
    ]
    assert second.companions == ()
    assert first.factors is None
