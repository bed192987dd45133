"""Which of the mixes on a machine to take: for each use, or of those that somebody named.

The way in which a mix runs goes before everything else: what leaves most of the work to the GPU is tried first. Within
a way the loss decides, and where losses are as good as equal, the size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from quantrecipe.memory.device import Settings
from quantrecipe.memory.footprint import WAYS, Footprint, Way
from quantrecipe.speed.clock import Pace
from quantrecipe.targets.targets import DEVICES

__all__ = ["EXACT", "FINE", "Option", "Pick", "picks_for_uses", "picks_of_these"]

FINE = 0.05
"""Mean KL divergence below which answers hardly change: a Q4_K_M of 8 thousand million weights has about 0.03, a Q3_K_M
0.08 (llama.cpp's README of llama-perplexity)."""
EXACT = 0.01
"""Mean KL divergence below which even rare tokens are right: about that of a Q5_K_M of the same size."""


_WITH: Mapping[Way, str] = {
    "gpu": "whole on the GPU",
    "experts beside it": "with its experts beside the GPU",
    "some layers": "with a part of its layers on the GPU",
    "cpu": "without a GPU",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Option:
    """One mix, as it runs on this machine.

    name:    as people say it: "Q4_K_M", or "fitted"
    recipe:  what `plan` and `apply` take for it; "" for the fitted one
    loss:    estimated mean KL divergence, in nats
    needs_imatrix: it can't be made, or shouldn't, without an importance matrix, and there was none
    experiment: fewer bits than the yardstick of QR303
    slow:    by device, the types that the table of targets calls slow there, in the way in which it runs
    refused: by device, the types that the engine can't run there
    runs:    what it takes: whole on the GPU, then with the experts beside it; without a GPU, in main memory
    best:    the first way that fits; None where none does
    context: most tokens that fit that way; without one, 0
    whole_context: most tokens with which it fits whole on the GPU
    small_cache: whole on the GPU with a KV cache of q8_0, where only that makes it fit
    active:  bytes that are read for each token; None where the model doesn't say how many experts that is
    all_layers: that this file has, the head counted as one
    pace:    how fast it is in the way in which it runs; None where nothing was measured on this machine
    """

    name: str
    recipe: str
    nbytes: int
    bits_per_weight: float
    loss: float
    needs_imatrix: bool
    experiment: bool
    slow: Mapping[str, tuple[str, ...]]
    refused: Mapping[str, tuple[str, ...]]
    runs: tuple[Footprint, ...]
    best: Footprint | None
    context: int
    whole_context: int
    small_cache: Footprint | None
    active: int | None
    all_layers: int
    pace: Pace | None = None

    @property
    def way(self) -> Way:
        """The way in which it runs."""
        return "no" if self.best is None else self.best.way

    @property
    def layers(self) -> int:
        """How many layers are on the GPU, the head counted as one."""
        return 0 if self.best is None else self.best.layers

    @property
    def gpu(self) -> int:
        """Bytes of the GPU that it takes, in the way in which it runs."""
        return 0 if self.best is None else self.best.gpu.total

    @property
    def ram(self) -> int:
        """Bytes of main memory that it takes, in the way in which it runs."""
        return (self.runs[-1] if self.best is None else self.best).ram.total


@dataclass(frozen=True, kw_only=True, slots=True)
class Pick:
    """What to take for a use, and why. `use` is "" where recipes were named: of these, take this one."""

    use: str
    option: Option
    why: str


def picks_for_uses(options: Sequence[Option], settings: Settings) -> Iterator[Pick]:
    """The way that leaves most to the GPU and in which something is good enough decides; if none is, the least loss."""
    running = _worth_taking(options)
    if not running:
        return
    least = min(running, key=lambda option: (option.loss, WAYS.index(option.way), option.nbytes))
    exact = _good(running, EXACT)
    if exact and exact[0].way == "gpu":
        code = min(exact, key=lambda option: (_slow(option), option.loss, option.nbytes))
        why = "one wrong token breaks a program, and it loses the least of all that fit on the GPU"
        yield Pick(use="code", option=code, why=why)
    elif exact:
        why = f"one wrong token breaks a program, and it is the smallest that loses at most {EXACT:g}"
        yield Pick(use="code", option=min(exact, key=_smallest), why=why)
    else:
        yield Pick(
            use="code", option=least, why="it loses the least of all that run here, and still much for code"
        )
    fine = _good(running, FINE)
    if fine:
        why = f"it is the smallest that loses at most {FINE:g}, so that answers hardly change"
        yield Pick(use="chat", option=min(fine, key=_smallest), why=why)
    else:
        why = f"it loses the least of all that run here; none is below {FINE:g}, so expect other answers"
        yield Pick(use="chat", option=least, why=why)
    yield _for_long_texts(fine or [least], settings)


def _for_long_texts(options: Sequence[Option], settings: Settings) -> Pick:
    if options[0].way == "some layers":  # every token more leaves less of the GPU to layers
        long = min(options, key=_smallest)
        why = "it is the smallest that is good enough, and every token takes room from the layers on the GPU"
    else:
        quick = [option for option in options if not _slow(option)] or options
        long = max(quick, key=lambda option: (option.context, -option.loss))
        why = f"up to {long.context:,} tokens fit that way"
    if settings.kv in ("f32", "f16", "bf16"):
        why += "; --kv q8_0 makes the cache half as large"
    return Pick(use="long context", option=long, why=why)


def picks_of_these(options: Sequence[Option], doubt: float) -> Iterator[Pick]:
    """Of recipes that were named, the one to take. `doubt`: the share by which estimates of losses may be wrong."""
    running = _worth_taking(options)
    if not running:
        return
    way = min((option.way for option in running), key=WAYS.index)
    here = [option for option in running if option.way == way]
    least = min(here, key=lambda option: (option.loss, option.nbytes))
    close = [option for option in here if option.loss <= least.loss * (1 + doubt)]
    best = min(close, key=_smallest)
    if len(options) == 1:
        why = "it is the only one that was asked for, and it fits"
    elif len(here) == 1 and len(running) > 1:
        why = f"it is the only one of these that runs {_WITH[way]}"
    elif len(here) == 1:
        why = "it is the only one of these that fits, experiments not counted"
    elif best is least:
        why = "it loses the least of these, by the estimate"
    elif _slow(least) and not _slow(best):
        why = (
            f"its types aren't slow, and its estimated loss is within {doubt:.0%} of the least: no difference"
        )
    else:
        why = f"it is smaller, and its estimated loss is within {doubt:.0%} of the least: no difference"
    if best.loss > FINE:
        why += f"; but it is expected to lose {best.loss:.2g}, and from {FINE:g} on answers change"
    yield Pick(use="", option=best, why=why)


def _worth_taking(options: Sequence[Option]) -> list[Option]:
    """What runs, is no experiment, and that the engine doesn't refuse."""
    return [o for o in options if o.way != "no" and not o.experiment and not o.refused]


def _good(options: Sequence[Option], most: float) -> list[Option]:
    """Those that lose no more, of the first way in which there are any."""
    for way in WAYS:
        if found := [option for option in options if option.way == way and option.loss <= most]:
            return found
    return []


def _slow(option: Option) -> bool:
    """True where a type is slow on the CPU, if that is used, or on whatever the GPU may be."""
    devices = set(option.slow) - {"cpu"}
    gpus = sum(1 for device in DEVICES if device != "cpu")
    return "cpu" in option.slow or len(devices) in (1, gpus)


def _smallest(option: Option) -> tuple[bool, bool, int, int, float]:
    """Its types aren't slow, it needs no matrix that isn't there, most of it is on the GPU; then by size."""
    return (_slow(option), option.needs_imatrix, -option.layers, option.nbytes, option.loss)
