"""A budget's limits, as what each tensor takes of them: of the file, of a token's reading or its time, of the GPU's
memory.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from math import ceil, floor

from quantrecipe.gguf.write_header import padded
from quantrecipe.memory.active import ActiveBytes
from quantrecipe.memory.device import Division, Settings, reserved
from quantrecipe.model.model import Model
from quantrecipe.plan.plan import Plan
from quantrecipe.recipe.budget import Budget, VramBudget
from quantrecipe.tensor import TensorInfo, is_table

__all__ = ["SPEED", "Meter", "meters", "settings_of"]

SPEED = "speed"
"""The key of the only limit that isn't counted in bytes: a token's time, in nanoseconds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Meter:
    """One limit of a budget, as a measure of plans and of tensors.

    key:     what recipes call it: "size"
    most:    bytes that may be used; nanoseconds, where it is about speed
    takes:   what a tensor takes of it, where the file stores it in so many bytes of a type
    whole:   what a plan uses of it, with what isn't in tensors: the header, KV cache and buffers
    weights: where people read bits per weight, how many weights there are; else None
    """

    key: str
    most: int
    takes: Callable[[TensorInfo, int, str], int]
    whole: Callable[[Plan], int]
    weights: int | None = None

    def used_by(self, plan: Plan, names: Collection[str]) -> int:
        """What these tensors and their companions take."""
        return sum(
            self.takes(a.tensor, a.nbytes, a.type)
            for a in plan.assignments
            if (a.owner or a.tensor.name) in names
        )

    def text(self, nbytes: int) -> str:
        """An amount as the recipe says it, rounded up, so that a limit of this text allows it."""
        if self.key == SPEED:
            return f"{floor(1e13 / nbytes) / 1e4:.4g} tokens per second"
        if self.weights is None:
            return f"{nbytes:,} bytes"
        return f"{ceil(nbytes * 8 / self.weights * 1e4) / 1e4:.4f} bits per weight"


def meters(budget: Budget, model: Model) -> list[Meter]:
    """A meter for each limit that the budget gives, in the order of the budget's keys."""
    found: list[Meter] = []
    if budget.size is not None:
        found.append(
            Meter(
                key="size",
                most=budget.size,
                takes=lambda tensor, nbytes, type_: padded(nbytes, model.alignment),
                whole=lambda plan: plan.nbytes,
            )
        )
    if budget.bpw is not None:
        weights = sum(tensor.size for tensor in model.tensors)
        most = floor(budget.bpw * weights / 8)
        found.append(_summed("bpw", most, lambda tensor, nbytes: nbytes, weights=weights))
    if budget.vram is not None or budget.ram is not None:  # it takes milliseconds
        # Without a GPU's budget the model is divided as llama.cpp does by default: all layers on the GPU.
        division = Division(model, Settings() if budget.vram is None else settings_of(budget.vram))
    if budget.vram is not None:
        kept_free = reserved(budget.vram.total)
        found.append(
            Meter(
                key="vram",
                most=budget.vram.total,
                takes=lambda tensor, nbytes, type_: division.on_gpu(tensor, nbytes),
                whole=lambda plan: (
                    kept_free + division.gpu((a.tensor, a.nbytes) for a in plan.assignments).total
                ),
            )
        )
    if budget.ram is not None:
        found.append(_summed("ram", budget.ram, division.on_cpu))
    if budget.active is not None:
        found.append(_summed("active", budget.active, ActiveBytes(model)))
    head = model.head
    if budget.tables is not None:
        found.append(_summed("tables", budget.tables, partial(_of_tables, True, head)))
    if budget.without_tables is not None:
        found.append(_summed("without_tables", budget.without_tables, partial(_of_tables, False, head)))
    if (speed := budget.speed) is not None:
        takes, constant = speed.takes, speed.constant
        found.append(
            Meter(
                key=SPEED,
                most=floor(1e9 / speed.least),
                takes=takes,
                whole=lambda plan: (
                    constant + sum(takes(a.tensor, a.nbytes, a.type) for a in plan.assignments)
                ),
            )
        )
    return found


def _of_tables(tables: bool, head: str | None, tensor: TensorInfo, nbytes: int) -> int:
    """Bytes of what are, or aren't, tables of which a token reads a row."""
    return nbytes if is_table(tensor, head) is tables else 0


def settings_of(vram: VramBudget) -> Settings:
    """The way in which a model is run that has to fit into this budget."""
    return Settings(
        context=vram.context, kv=vram.kv, layers=vram.layers, experts=vram.experts, ubatch=vram.ubatch
    )


def _summed(
    key: str, most: int, takes: Callable[[TensorInfo, int], int], weights: int | None = None
) -> Meter:
    """The meter of a limit that is about tensors alone."""
    return Meter(
        key=key,
        most=most,
        takes=lambda tensor, nbytes, type_: takes(tensor, nbytes),
        whole=lambda plan: sum(takes(a.tensor, a.nbytes) for a in plan.assignments),
        weights=weights,
    )
