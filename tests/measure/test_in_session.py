"""What a session's process does for probes: tensors in pieces, what can be exchanged, inputs reduced as they pass."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support.models import llama_metadata, llama_tensors, write_gguf
from support.resident_engine import REGISTRY, OpenModel

from quantrecipe import open_model
from quantrecipe.errors import EvaluationError
from quantrecipe.measure import in_session
from quantrecipe.measure.in_session import Held, inputs_of, put, used_of

V = "blk.0.attn_v.weight"


def untold(what: object) -> None:
    """Of a function that tells how far it is."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "m.gguf", llama_tensors(layers=1), llama_metadata(block_count=1))


def held(path: Path, name: str = V, **changes: Any) -> Held:
    (extent,) = open_model(path, registry=REGISTRY).sources[name].extents
    facts: dict[str, Any] = {"ggml_type": 30, "offset": extent.offset, "nbytes": extent.nbytes}
    return Held(name=name, path=extent.path, **facts | changes)


def test_a_tensor_is_put_in_pieces(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_session, "_PIECE", 1000)
    model = OpenModel(path, ())
    exact = model.bytes[V].copy()
    model.bytes[V][:] = 7
    put(model, [held(path)], tell=untold)  # type: ignore[arg-type]  # a stand-in
    assert np.array_equal(model.bytes[V], exact)
    assert len(model.written) == -(-exact.size // 1000)


def test_a_file_that_was_cut_meanwhile(path: Path) -> None:
    with pytest.raises(EvaluationError, match=f"ends before {V} does"):
        list(held(path, offset=path.stat().st_size - 8).pieces())
    with pytest.raises(EvaluationError, match="can't be read"):
        list(Held(name=V, ggml_type=30, path=path.parent / "gone", offset=0, nbytes=8).pieces())


def test_what_isn_t_in_the_graph_is_not_used(path: Path) -> None:
    tensors = [held(path), held(path, "output.weight")]
    assert used_of(OpenModel(path, [V]), tensors, tell=untold) == ["output.weight"]  # type: ignore[arg-type]  # a stand-in


@pytest.mark.parametrize("where", [0, -1])
def test_weights_that_lie_in_another_way_can_t_be_exchanged(path: Path, where: int) -> None:
    model = OpenModel(path, ())
    model.bytes[V][where] ^= 1
    with pytest.raises(EvaluationError, match=f"has {V} in memory in another way than in the file"):
        used_of(model, [held(path)], tell=untold)  # type: ignore[arg-type]  # a stand-in
    with pytest.raises(EvaluationError, match="in another way"):
        used_of(OpenModel(path, ()), [held(path, ggml_type=8)], tell=untold)  # type: ignore[arg-type]  # the same


@dataclass
class Product:
    """A matrix and its inputs: what `run` shows."""

    weight: str
    values: Any
    matrices: int = 1
    experts: Any = None
    is_float32: bool = True

    @property
    def kind(self) -> str:
        return "product" if self.experts is None else "by expert"

    def inputs(self) -> Any:
        return self.values

    def chosen(self) -> Any:
        return self.experts


class Running:
    """A model that computes these products for each chunk, one at a time."""

    def __init__(self, *products: Product) -> None:
        self.products = products

    def side_by_side(self, n_ctx: int) -> int:
        assert n_ctx == 16
        return 1

    def run(self, chunks: Any, watch: Any) -> None:
        assert len(chunks) == 1
        for product in self.products:
            if watch.wants(product):
                assert watch.see(product)


def squares(rows: Any) -> Any:
    assert not rows.flags.writeable
    return np.square(rows.astype(np.float64)).sum(axis=0)


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> Any:
    reference = SimpleNamespace(tokens=np.zeros((2, 16), np.int32))
    monkeypatch.setattr(in_session, "read_reference", lambda path: reference)

    def look(*products: Product, function: Any = squares) -> Any:
        told: list[object] = []
        names = ["a", "stack", "experts"]
        found = inputs_of(Running(*products), Path(), names, function, tell=told.append)  # type: ignore[arg-type]  # a stand-in
        assert told == [(1, 2), (2, 2)]
        return found

    return look


def test_inputs_are_added_up(looked: Any) -> None:
    values = np.random.default_rng(0).standard_normal((1, 1, 5, 4)).astype(np.float32)
    found = looked(Product("a", values.copy()), Product("b", values.copy()))
    assert found.keys() == {"a"}
    assert found["a"].dtype == np.float64
    assert found["a"] == pytest.approx(2 * np.square(values[0, 0].astype(np.float64)).sum(axis=0))


@pytest.mark.parametrize("heads", [2, 6])
def test_of_a_stack_each_matrix_has_its_own(looked: Any, heads: int) -> None:
    """Six heads may share two matrices, three each."""
    values = np.random.default_rng(0).standard_normal((1, heads, 5, 4)).astype(np.float32)
    found = looked(Product("stack", values.copy(), matrices=2))["stack"]
    wanted = np.square(values.astype(np.float64)).reshape(2, -1, 4).sum(axis=1)
    assert found == pytest.approx(2 * wanted)


@pytest.mark.parametrize("each_its_own", [False, True])
def test_experts_get_the_tokens_that_chose_them(looked: Any, each_its_own: bool) -> None:
    values = np.random.default_rng(0).standard_normal((1, 3, 2 if each_its_own else 1, 4)).astype(np.float32)
    chosen = np.array([[0, 2], [2, 0], [2, 3]], np.int32)  # nobody goes to 1
    found = looked(Product("experts", values.copy(), matrices=4, experts=chosen))["experts"]
    wanted = np.zeros((4, 4))
    for token in range(3):
        for place in range(2):
            wanted[chosen[token, place]] += np.square(
                values[0, token, place if each_its_own else 0].astype(np.float64)
            )
    assert found == pytest.approx(2 * wanted)
    assert not found[1].any()


def test_inputs_that_can_t_be_looked_at(looked: Any) -> None:
    values = np.ones((1, 1, 2, 4), np.float32)
    with pytest.raises(EvaluationError, match="multiplies a with inputs that aren't float32"):
        looked(Product("a", values, is_float32=False))
    values[0, 0, 1, 2] = np.nan
    with pytest.raises(EvaluationError, match="the inputs of a are NaN or Inf"):
        looked(Product("a", values))
