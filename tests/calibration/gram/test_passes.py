"""Which inputs are in one pass: by memory, by layers, and shared out among workers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
from support.models import llama_metadata, write_gguf

from quantrecipe.calibration.gram import passes
from quantrecipe.calibration.gram.collect import GramInput, Survey
from quantrecipe.calibration.gram.passes import (
    by_layers,
    by_memory,
    largest_input,
    memory_beside,
    seconds_of,
    seconds_together,
    shared_out,
)
from quantrecipe.memory.machine import Machine
from quantrecipe.model.open_model import open_model

COLUMNS = (64, 64, 200, 64, 700, 64, 130, 64, 90)


def made(name: str, columns: int, matrices: int = 1, by_expert: bool = False) -> GramInput:
    return GramInput(name=name, weights=(name,), columns=columns, matrices=matrices, by_expert=by_expert)


INPUTS = [made(f"blk.{n // 2}.w{n}.weight", columns) for n, columns in enumerate(COLUMNS)]
SEEN = Survey(
    inputs=tuple(INPUTS),
    visits=tuple(it.name for it in INPUTS),
    rows={it.name: 1 for it in INPUTS} | {INPUTS[1].name: 8},
    seconds=0.001,
    operations=1e9,
)


def seconds(some: Sequence[GramInput]) -> float:
    return seconds_of(SEEN, some, 1000)


def divisions(inputs: Sequence[GramInput], count: int) -> Iterator[list[Sequence[GramInput]]]:
    """All ways to divide them into so many consecutive parts."""
    for cuts in combinations(range(1, len(inputs)), count - 1):
        yield [inputs[a:b] for a, b in pairwise((0, *cuts, len(inputs)))]


def longest(parts: Sequence[Sequence[GramInput]]) -> float:
    return max(map(seconds, parts))


def test_a_pass_runs_the_model_to_its_last_input_and_adds_products_up() -> None:
    assert seconds(INPUTS[:1]) == pytest.approx(1 / 9 + 1000 * INPUTS[0].operations / 1e9)
    assert seconds(INPUTS[8:]) == pytest.approx(1 + 1000 * INPUTS[8].operations / 1e9)
    both = (INPUTS[0].operations + 8 * INPUTS[1].operations) / 1e6
    assert seconds(INPUTS[:2]) == pytest.approx(2 / 9 + both)


@pytest.mark.parametrize("workers", [1, 2, 3, 4, 9])
def test_the_longest_pass_of_all_workers_is_as_short_as_can_be(workers: int) -> None:
    found = shared_out(INPUTS, 1 << 40, workers, seconds)
    assert [it for one in found for it in one] == INPUTS
    assert len(found) <= workers
    best = min(longest(parts) for count in range(1, workers + 1) for parts in divisions(INPUTS, count))
    assert longest(found) == pytest.approx(best)


@pytest.mark.parametrize("share", [1.0, 1.1])
def test_more_passes_than_workers_where_memory_is_short(share: float) -> None:
    """With a little more than the largest needs, it isn't best to fill each pass."""
    room = int(share * max(it.memory for it in INPUTS)) + 1
    fewest = len(by_memory(INPUTS, room))
    found = shared_out(INPUTS, room, 2, seconds)
    assert len(found) == fewest > 2
    assert all(sum(it.memory for it in one) <= room for one in found)
    assert [it for one in found for it in one] == INPUTS
    fitting = [
        parts
        for parts in divisions(INPUTS, fewest)
        if all(sum(it.memory for it in one) <= room for one in parts)
    ]
    assert longest(found) == pytest.approx(min(map(longest, fitting)))


def test_an_input_that_has_no_room_is_alone() -> None:
    assert shared_out(INPUTS, 1, 2, seconds) == [[it] for it in INPUTS]
    assert shared_out([], 1, 2, seconds) == []
    assert len(shared_out(INPUTS[:2], 1 << 40, 5, seconds)) == 2


def test_layers_stay_together() -> None:
    inputs = [*INPUTS, made("output.weight", 64)]
    assert [len(one) for one in by_layers(inputs, 2)] == [4, 4, 2]
    assert [len(one) for one in by_layers(inputs, 1)] == [2, 2, 2, 2, 1, 1]


def test_each_free_worker_gets_the_next_pass() -> None:
    assert seconds_together([5, 4, 3, 3], 2) == 8  # 5 + 3, and 4 + 3
    assert seconds_together([5, 4, 3, 3], 1) == 15
    assert seconds_together([5], 3) == 5
    assert seconds_together([], 3) == 0


class TestMemory:
    def beside(self, path: Path, monkeypatch: pytest.MonkeyPatch, free: int, workers: int) -> passes.Memory:
        monkeypatch.setattr(
            passes, "detect_machine", lambda: Machine(gpus=(), ram_total=1 << 40, ram_free=free)
        )
        return memory_beside(path, workers)

    @pytest.mark.parametrize(
        ("free", "workers", "left", "room"),
        [(1000, 1, 600, 300), (1000, 3, 600, 100), (420, 1, 105, 52), (40_000, 2, 39_600, 9_900)],
    )
    def test_workers_share_half_of_what_the_model_leaves(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        free: int,
        workers: int,
        left: int,
        room: int,
    ) -> None:
        (tmp_path / "model.gguf").write_bytes(bytes(400))
        found = self.beside(tmp_path / "model.gguf", monkeypatch, free, workers)
        assert (found.free, found.left, found.room) == (free, left, room)

    @pytest.mark.parametrize(
        ("experts", "output", "expected"),
        [
            ("shared", False, made("", 96)),
            ("each", False, made("", 48, 5)),
            ("shared", True, made("", 200)),
            ("each", True, made("", 200)),
        ],
    )
    def test_the_largest_input_is_told_by_shapes(
        self, tmp_path: Path, experts: str, output: bool, expected: GramInput
    ) -> None:
        shapes = {
            "blk.0.attn_q.weight": (4, 96),
            "blk.0.attn_k_b.weight": (2, 4, 32),
            "blk.0.ffn_down_exps.weight": (5, 4, 48),
            "blk.0.attn_norm.weight": (4000,),
            "output.weight": (4, 200),
            "token_embd.weight": (4, 3000),
        }
        tensors = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
        write_gguf(tmp_path / "model.gguf", tensors, llama_metadata())
        model = open_model(tmp_path / "model.gguf")
        assert largest_input(model, experts, output=output) == expected.memory  # type: ignore[arg-type]
