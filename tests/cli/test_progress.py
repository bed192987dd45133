"""The progress bars of apply, sensitivity and eval: on a line, however narrow the terminal."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator

import pytest
from rich.cells import cell_len
from rich.console import Console

from quantrecipe.cli.apply_progress import apply_progress
from quantrecipe.cli.context import UNLIMITED
from quantrecipe.cli.progress import ApplyBar, EvalBar, MeasureBar
from quantrecipe.tensor import TensorInfo

TENSOR = TensorInfo(
    name="blk.61.ffn_gate_inp_shexp.weight",
    shape=(256, 7168),
    dtype="BF16",
    layer=61,
    role="ffn_gate_inp_shexp",
)


def apply(console: Console) -> None:
    with ApplyBar(console) as bar:
        bar.compiling(2, 5, "Q4_K encode, importance")
        bar._bar.refresh()
        bar.told("node 7 (gpu-7.cluster.internal): its node has gone away; others do its work")
        bar.start(3_000_000_000)
        bar.tensor(TENSOR, ("Q4_K", "Q5_K", "IQ4_XS"))
        bar.advance(1_000_000_000, 123_000_000_000, 1)
        bar._bar.refresh()


def measure(console: Console) -> None:
    with MeasureBar(console) as bar:
        bar.stage("losses")
        bar.note(
            "each probe writes and loads a file: this llama.cpp has other structs than those that are known"
        )
        bar.say(TENSOR.name)
        bar.total(0.5)
        bar.share(0.25)
        bar._bar.refresh()


def evaluate(console: Console) -> None:
    with EvalBar(console) as bar:
        for kind in ("Q4_K_M", "IQ4_XS"):
            bar.task(f"Qwen3-30B-A3B-Instruct-2507-quantrecipe-fitted-{kind}.gguf")(12, 1024)
        bar._bar.refresh()


BARS = pytest.mark.parametrize("draw", [apply, measure, evaluate])


def frames(draw: Callable[[Console], None], width: int) -> Iterator[str]:
    file = io.StringIO()
    draw(Console(file=file, force_terminal=True, width=width, color_system=None))
    yield from (line for line in re.split(r"\n|\r|\x1b\[[\d;?]*[A-Za-z]", file.getvalue()) if line.strip())


@BARS
@pytest.mark.parametrize("width", [40, 60, 80])
def test_no_line_is_longer_than_the_terminal(draw: Callable[[Console], None], width: int) -> None:
    shown = list(frames(draw, width))
    assert shown
    assert max(map(cell_len, shown)) <= width


@BARS
def test_what_is_at_work_can_be_told_at_forty_columns(draw: Callable[[Console], None]) -> None:
    *_, one, other = frames(draw, 40)
    assert one.startswith(("blk.61", "losses", "Qwen3-30B"))
    assert any(share in other for share in ("50 %", "33 %", "12/1024"))
    assert draw is not evaluate or one.split()[0] != other.split()[0]


@BARS
def test_nothing_is_drawn_in_a_pipe_that_was_asked_for_colours(draw: Callable[[Console], None]) -> None:
    assert not [line for line in frames(draw, UNLIMITED) if "━" in line or "%" in line]


@pytest.mark.parametrize("watched", [True, False])
def test_what_becomes_of_workers_is_a_note(watched: bool) -> None:
    file = io.StringIO()
    with apply_progress(Console(file=file, force_terminal=watched, width=80, color_system=None)) as progress:
        progress.told("node 7 has gone away\x1b[2J")
    assert "note: node 7 has gone away" in file.getvalue()
    assert "away\x1b[2J" not in file.getvalue()
