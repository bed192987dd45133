"""Collecting, with products that a test makes: what is looked at, how it is added up, and where a graph may end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.fake_graph import COLUMNS, EXPERTS, Fake, FakeModel

from quantrecipe.calibration import collect as collect_module
from quantrecipe.calibration.collect import (
    Another,
    Change,
    Filling,
    Group,
    Ran,
    Saved,
    Unusable,
    Work,
    collect,
    fill_experts,
)
from quantrecipe.calibration.sums import SumsFile
from quantrecipe.errors import EvaluationError


def groups(count: int, *, each: int = 1, weight: float = 1.0) -> tuple[Group, ...]:
    chunks = np.arange(count * each * 20, dtype=np.int32).reshape(count, each, 20)
    return tuple(Group(chunks=chunk, domain=0, weight=weight) for chunk in chunks)


Start = Callable[..., Work]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    def made(chosen: Sequence[Group], **changes: Any) -> Work:
        fields: dict[str, Any] = {
            "output": False,
            "embeddings": False,
            "until": None,
            "experts": 0,
            "every": 1e9,
        }
        fields |= {"about": {"run": "x"}, "path": tmp_path / "sums"}
        return Work(groups=tuple(chosen), **fields | changes)

    return made


def run(model: FakeModel, work: Work) -> tuple[SumsFile, list[object]]:
    told: list[object] = []
    collect(model, work, tell=told.append)  # type: ignore[arg-type]  # it runs as one does
    found = SumsFile.read(work.path)
    assert found is not None
    return found, told


def test_what_is_looked_at(start: Start) -> None:
    found, told = run(FakeModel(), start(groups(3)))
    assert sorted(found.shared) == [
        f"blk.0.{role}.weight"
        for role in ("attn_k", "attn_k_b", "attn_q", "ffn_down_exps", "ffn_gate_exps", "ffn_up_exps")
    ]
    assert found.shared["blk.0.attn_k.weight"] == "blk.0.attn_q.weight"
    assert found.shared["blk.0.ffn_up_exps.weight"] == "blk.0.ffn_gate_exps.weight"
    assert [it.tokens for it in told if isinstance(it, Ran)] == [20, 40, 60]


def test_the_output_and_the_embeddings_on_request(start: Start) -> None:
    found, _ = run(FakeModel(), start(groups(1), output=True, embeddings=True))
    assert {"output.weight", "token_embd.weight"} <= found.shared.keys()
    assert found.tokens()["token_embd.weight"].tolist() == [20]


def test_embeddings_that_are_the_output_matrix_count_as_that(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is looked up in them and what they are multiplied with are two things, and aren't added up."""
    real = FakeModel.graph

    def tied(self: FakeModel, chunk: NDArray[np.int32]) -> Sequence[Fake]:
        products = list(real(self, chunk))
        products[0].rows = 100 + products[0].rows
        products[-1].weight = "token_embd.weight"
        return products

    monkeypatch.setattr(FakeModel, "graph", tied)
    output, _ = run(FakeModel(), start(groups(4), output=True))
    both, _ = run(FakeModel(), start(groups(4), output=True, embeddings=True, about={"run": "both"}))
    name = "token_embd.weight"
    assert both.tokens()[name].tolist() == [80]
    assert np.array_equal(both.sums()[name].squares, output.sums()[name].squares)
    looked_up, _ = run(FakeModel(), start(groups(4), embeddings=True, about={"run": "looked up"}))
    measured = {tensor.name: tensor for tensor in looked_up.measured()}
    assert measured[name].counts == (80,)
    assert (measured[name].sums() > 80 * 90**2).all()


def test_squares_are_added_up_by_matrix(start: Start) -> None:
    model, chosen = FakeModel(), groups(2, weight=2.5)
    found, _ = run(model, start(chosen))
    sums = found.sums()
    graphs = [{it.weight: it for it in model.graph(group.chunks[0])} for group in chosen]
    x = np.concatenate([graph["blk.0.attn_q.weight"].rows[0, 0] for graph in graphs]).astype(float)
    assert np.allclose(sums["blk.0.attn_q.weight"].squares, 2.5 * np.square(x).sum(axis=0))
    assert sums["blk.0.attn_q.weight"].weighed.tolist() == [100]
    assert sums["blk.0.attn_q.weight"].tokens.tolist() == [40]
    heads = np.concatenate([graph["blk.0.attn_k_b.weight"].rows[0] for graph in graphs], axis=1).astype(float)
    assert np.allclose(sums["blk.0.attn_k_b.weight"].squares, 2.5 * np.square(heads).sum(axis=1))
    assert sums["blk.0.attn_k_b.weight"].tokens.tolist() == [40]  # one count for the stack
    for role, slots in (("ffn_gate_exps", 1), ("ffn_down_exps", 2)):
        squares, tokens = np.zeros((EXPERTS, COLUMNS)), np.zeros(EXPERTS, int)
        for graph in graphs:
            product = graph[f"blk.0.{role}.weight"]
            for token, experts in enumerate(product.chosen()):
                for slot, expert in enumerate(experts):
                    squares[expert] += np.square(product.rows[0, token, slot % slots].astype(float))
                    tokens[expert] += 1
        assert np.allclose(sums[f"blk.0.{role}.weight"].squares, 2.5 * squares)
        assert sums[f"blk.0.{role}.weight"].tokens.tolist() == tokens.tolist()
        assert tokens[EXPERTS - 1] == 0


def test_nothing_behind_the_last_matrix_is_computed(start: Start) -> None:
    """The first graph shows which is last; from the second on the output isn't even asked about."""
    model = FakeModel()
    run(model, start(groups(4)))
    assert model.asked.count("output.weight") == 1
    assert model.seen.count("blk.0.ffn_down_exps.weight") == 4
    whole = FakeModel()
    run(whole, start(groups(4), output=True, about={"run": "with the output"}))
    assert whole.seen.count("output.weight") == 4


def test_large_inputs_don_t_overflow(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    real = FakeModel.graph

    def huge(self: FakeModel, chunk: NDArray[np.int32]) -> Sequence[Fake]:
        products = real(self, chunk)
        products[1].rows[:] = 3e20
        return products

    monkeypatch.setattr(FakeModel, "graph", huge)
    found, _ = run(FakeModel(), start(groups(1)))
    assert np.allclose(found.sums()["blk.0.attn_q.weight"].squares, 20 * 9e40)


def test_numbers_that_are_none_are_located(start: Start) -> None:
    with pytest.raises(EvaluationError) as error:
        run(FakeModel(broken=60), start(groups(2, each=2)))
    said = str(error.value)
    assert said.startswith("model.gguf: the input of blk.0.attn_q.weight is NaN or Inf (chunk 4, token 3)")


class TestLooks:
    @pytest.mark.parametrize(
        ("before", "now", "moved"),
        [
            ([[1, 1, 2]], [[3, 3, 6]], 0),  # three times as large, and the same to a quantizer
            ([[1, 1, 2]], [[2, 0, 2]], 0.25),
            (
                [[1, 0], [0, 0], [1, 1]],
                [[0, 1], [1, 1], [1, 1]],
                0.5,
            ),  # one that had no token before isn't counted
            ([[0, 0]], [[1, 0]], 1),
            ([[0, 0]], [[0, 0]], 0),
        ],
    )
    def test_what_moves_among_columns(
        self, before: list[list[float]], now: list[list[float]], moved: float
    ) -> None:
        assert collect_module._change(*(np.array(it, np.float32) for it in (before, now))) == moved

    def test_the_change_is_told_and_ends_the_run(self, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("quantrecipe.calibration.collect._FIRST_LOOK", 100)
        _, told = run(FakeModel(), start(groups(80)))
        changes = [it for it in told if isinstance(it, Change)]
        assert [it.tokens for it in changes] == [140, 180, 240, 300, 380, 480, 600, 760, 960, 1200, 1500]
        assert changes[-1].share < changes[0].share / 2
        assert changes[0].most >= changes[0].share

    def test_it_is_enough_once_experts_are_covered_too(
        self, start: Start, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("quantrecipe.calibration.collect._FIRST_LOOK", 100)
        tell: Callable[[object], None] = lambda it: None  # noqa: E731  # who hears nothing
        model: Any = FakeModel()
        done = collect(model, start(groups(80), until=0.5), tell=tell)
        assert (done.enough, done.tokens) == (True, 140)
        never = collect(model, start(groups(80), until=0.4, experts=1, about={"run": "y"}), tell=tell)
        assert not never.enough  # the last expert never gets a token
        assert never.tokens == 1600


class TestGoingOn:
    def test_a_stopped_run_ends_in_the_same_sums(self, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("quantrecipe.calibration.collect._FIRST_LOOK", 100)
        whole, all_told = run(FakeModel(), start(groups(30)))
        expected, changes = whole.sums(), [it for it in all_told if isinstance(it, Change)]
        whole.path.unlink()
        run(FakeModel(), start(groups(11)))
        found, told = run(FakeModel(), start(groups(30)))
        assert told[0] == Saved(groups=11, tokens=220, resumed=True)
        assert [it for it in told if isinstance(it, Change)] == changes[2:]
        for name, sums in expected.items():
            assert np.array_equal(found.sums()[name].squares, sums.squares)

    def test_what_was_told_something_else_isn_t_gone_on_from(self, start: Start) -> None:
        work = start(groups(5))
        _, told = run(FakeModel(), work)
        assert not any(isinstance(it, Another) for it in told)
        _, told = run(FakeModel(), start(groups(5), about={"run": "another"}))
        assert told[0] == Another(path=work.path, tokens=100)
        assert not any(isinstance(it, Saved) and it.resumed for it in told)

    @pytest.mark.parametrize("place", [40, -60], ids=["an array", "the archive"])
    def test_damage_is_told_and_the_run_begins_anew(self, start: Start, place: int) -> None:
        """No crash leaves a file like that: it gets its name when it is on the disk."""
        work = start(groups(5))
        expected = run(FakeModel(), work)[0].sums()
        data = bytearray(work.path.read_bytes())
        data[data.index(b"squares/") + 300 if place > 0 else place] ^= 4
        work.path.write_bytes(data)
        found, told = run(FakeModel(), work)
        assert told[0] == Unusable(path=work.path)
        assert not any(isinstance(it, Saved) and it.resumed for it in told)
        for name, sums in found.sums().items():
            assert np.array_equal(sums.squares, expected[name].squares)

    def test_what_was_enough_is_enough_again(self, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
        """The run was stopped between its last save and the writing of the matrix."""
        monkeypatch.setattr("quantrecipe.calibration.collect._FIRST_LOOK", 100)
        model: Any = FakeModel()
        work = start(groups(80), until=0.5)
        tell: Callable[[object], None] = lambda it: None  # noqa: E731  # who hears nothing
        done, saved = collect(model, work, tell=tell), work.path.read_bytes()
        assert (done.enough, done.tokens) == (True, 140)
        model.seen.clear()
        assert collect(model, work, tell=tell) == done
        assert model.seen == []
        assert work.path.read_bytes() == saved


class TestFilling:
    def fill(self, path: Path, model: FakeModel, least: int) -> int:
        filling = Filling(groups=groups(2), path=path, least=least)
        return fill_experts(model, filling, tell=lambda it: None)  # type: ignore[arg-type]  # it runs as one does

    def test_experts_without_tokens_get_what_all_tokens_give(self, start: Start) -> None:
        work = start(groups(2))
        before = run(FakeModel(), work)[0].sums()
        model = FakeModel(all_experts=True)
        assert self.fill(work.path, model, 1) == 2  # of two inputs, one expert each
        found = SumsFile.read(work.path)
        assert found is not None
        for name, sums in found.sums().items():
            old = before[name]
            if name.endswith("exps.weight"):
                assert sums.tokens[:-1].tolist() == old.tokens[:-1].tolist()
                assert sums.tokens[-1] == 40
                assert np.array_equal(sums.squares[:-1], old.squares[:-1])
                assert (sums.squares[-1] > 0).all()
            else:
                assert np.array_equal(sums.squares, old.squares)
        assert "blk.0.attn_q.weight" not in model.seen
        run(FakeModel(), work)  # stopped before the matrix was written, and gone on from
        again = SumsFile.read(work.path)
        assert again is not None
        assert again.about["filled"] == 2

    def test_a_model_that_doesn_t_use_all_its_experts(self, start: Start) -> None:
        work = start(groups(2))
        run(FakeModel(), work)
        with pytest.raises(EvaluationError, match="doesn't give every token to every expert"):
            self.fill(work.path, FakeModel(), 1)
