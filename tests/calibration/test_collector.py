"""Sums of groups, added up: whatever order processes computed them in, and wherever their arrays come from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.fake_graph import FakeModel

from quantrecipe.calibration.collector import Collector, GroupSums, Total
from quantrecipe.calibration.sums import InputSums
from quantrecipe.errors import EvaluationError

EMBEDDINGS, LOOKED_UP = "token_embd.weight", "token_embd.weight (looked up)"


def group(shared: dict[str, str], value: float = 1.0) -> GroupSums:
    arrays = np.full((1, 3), value), np.full(1, value), np.full(1, 2)
    for array in arrays:
        array.flags.writeable = False  # as those that an executor maps are
    sums = {name: InputSums(*arrays) for name in shared.values()}
    return GroupSums(sums=sums, shared=shared, learned=None)


def test_arrays_that_can_t_be_written_are_added() -> None:
    total = Total()
    for value in (1.0, 2.0, 4.0):
        total.add(group({"q": "q", "k": "q"}, value))
    assert total.shared == {"q": "q", "k": "q"}
    assert total.sums["q"].squares.tolist() == [[7.0] * 3]
    assert total.sums["q"].weighed.tolist() == [7.0]
    assert total.sums["q"].tokens.tolist() == [6]


def test_embeddings_that_are_the_output_stay_so() -> None:
    """A group in which the output wasn't computed says that they are only looked up."""
    total = Total()
    total.add(group({EMBEDDINGS: LOOKED_UP}))
    assert total.sums.keys() == {LOOKED_UP}
    total.add(group({EMBEDDINGS: EMBEDDINGS}, 2.0))
    total.add(group({EMBEDDINGS: LOOKED_UP}))
    assert total.sums.keys() == {EMBEDDINGS}
    assert total.sums[EMBEDDINGS].squares.tolist() == [[2.0] * 3]


def test_groups_that_contradict_each_other_are_told() -> None:
    total = Total()
    total.add(group({"q": "q", "k": "q"}))
    with pytest.raises(EvaluationError, match="gives k the input of k now, and that of q before"):
        total.add(group({"q": "q", "k": "k"}))


def test_what_is_taken_is_added_once_and_what_was_learned_stays() -> None:
    model: Any = FakeModel()
    collector, chunk = Collector(model.n_vocab), np.arange(20, dtype=np.int32)[None]
    model.run(chunk, collector)
    first = collector.take()
    assert first.learned is not None
    model.run(chunk, collector)
    again = collector.take()
    assert again.learned == first.learned
    assert collector.take().sums == {}
    other = Collector(model.n_vocab, learned=first.learned)
    asked = len(model.asked)
    model.run(chunk, other)
    assert "output.weight" not in model.asked[asked:]
    for found in (again, other.take()):
        for name, sums in first.sums.items():
            assert np.array_equal(found.sums[name].squares, sums.squares)
