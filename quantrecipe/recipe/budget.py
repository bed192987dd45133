"""Budget: the limits within which the types of `choose` rules are chosen, and which tensors go together.

    budget:
      size: 5.2GB                        of the file; thousands, as files are counted
      bpw: 4.9                           bits per weight, over all tensors
      vram: {total: 12GiB, context: 32k, kv: q8_0}     of memory, GB and no unit at all mean GiB
      ram: 64GiB                         of weights that stay in main memory
      active: 3GB                        of weights that are read for each token
      tables: 700MB                      of tables of which a token reads a row, such as embeddings
      without_tables: 2GB                of all other tensors
      kld: 0.01                          that may be lost, in the smallest file that loses no more
      ties: [[attn_q, attn_k, attn_v]]   tensors of one layer that get one type

Several limits hold together. In a recipe that extends others, the first budget in the chain that gives any limit
gives them all; ties are taken from the first that has any.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from quantrecipe.recipe.origin import Origin
from quantrecipe.recipe.reading.yaml_document import Node
from quantrecipe.recipe.terms.pattern import Pattern
from quantrecipe.tensor import TensorInfo
from quantrecipe.units import parse_file_size, parse_memory, parse_tokens

if TYPE_CHECKING:
    from quantrecipe.recipe.reading.value_slots import Slots
    from quantrecipe.recipe.reading.variables import VariableType

__all__ = [
    "BUDGET_KEYS",
    "EXPERT_PLACES",
    "KV_TYPES",
    "VRAM_KEYS",
    "Budget",
    "SpeedLimit",
    "VramBudget",
    "budget_keys",
    "merge_budgets",
    "read_budget",
    "written_budget",
]

BUDGET_KEYS = ("size", "bpw", "vram", "ram", "active", "tables", "without_tables", "kld", "ties")
VRAM_KEYS = ("total", "context", "kv", "layers", "experts", "ubatch")
KV_TYPES = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")
"""What llama.cpp's --cache-type-k takes."""
EXPERT_PLACES = ("gpu", "cpu")

_OF_FILES = ("size", "active", "tables", "without_tables")  # sizes as files are counted
_MAX_BPW = 64  # those of F64, the largest type there is
_BYTES_FROM = 1_000_000
"""Below this, units.py reads a number without a unit as something else than bytes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VramBudget:
    """What has to fit into the memory of the GPU: weights, KV cache and compute buffers.

    total:   bytes
    context: tokens that the KV cache holds
    kv:      type of the cache's keys and values
    layers:  how many layers are on the GPU (llama.cpp's --n-gpu-layers); None: all, and the head
    experts: "cpu" keeps the experts' matrices in main memory (llama.cpp's --cpu-moe)
    ubatch:  tokens that are computed at once (llama.cpp's --ubatch-size)
    """

    total: int
    context: int = 4096
    kv: str = "f16"
    layers: int | None = None
    experts: Literal["gpu", "cpu"] = "gpu"
    ubatch: int = 512


@dataclass(frozen=True, kw_only=True, slots=True)
class SpeedLimit:
    """How fast answers have to be on one machine. Command lines give it; a recipe, which goes elsewhere, can't.

    least:    tokens per second
    takes:    nanoseconds that a token takes for a tensor of so many bytes in a type
    constant: nanoseconds of each token, whatever the types
    """

    least: float
    takes: Callable[[TensorInfo, int, str], int]
    constant: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """The limits, each None where the recipe doesn't have it, and the ties.

    size:   bytes of the file (of all shards together)
    bpw:    bits per weight of all tensors' data together
    vram:   what has to fit into the GPU's memory
    ram:    bytes of the weights that stay in main memory
    active: bytes of the weights that are read for each token: of the experts, those that a token is sent to
    tables: bytes of the tables of which a token reads a row: embeddings, unless they are the head, too
    without_tables: bytes of all other tensors
    kld:    mean KL divergence that may be expected, in nats: the smallest choice within it is taken, not the best one
    ties:   in each layer, the tensors that the patterns of one tie name get one type
    speed:  how fast answers have to be
    """

    origin: Origin
    size: int | None = None
    bpw: float | None = None
    vram: VramBudget | None = None
    ram: int | None = None
    active: int | None = None
    tables: int | None = None
    without_tables: int | None = None
    kld: float | None = None
    ties: tuple[tuple[Pattern, ...], ...] = ()
    speed: SpeedLimit | None = None

    @property
    def limited(self) -> bool:
        """True where there is any limit."""
        limits = (self.size, self.bpw, self.vram, self.ram, self.active, self.tables, self.without_tables)
        return any(limit is not None for limit in (*limits, self.kld, self.speed))


def read_budget(node: Node | None, slots: Slots) -> Budget | None:
    """Read the key `budget` of one file."""
    if node is None:
        return None
    read = slots.read
    keys = read.mapping(node, "budget", BUDGET_KEYS)
    if keys is None:
        return None
    if not keys:
        limits = "size, bpw, vram, ram, active, tables, without_tables or kld"
        read.add(node, "the budget is empty", f"give it a limit: {limits}")
    return Budget(
        origin=Origin(file=read.file, line=node.line),
        size=_size(keys.get("size"), "size", slots, parse_file_size),
        bpw=_bpw(keys.get("bpw"), slots),
        vram=_vram(keys.get("vram"), slots),
        ram=_size(keys.get("ram"), "ram", slots, parse_memory),
        active=_size(keys.get("active"), "active", slots, parse_file_size),
        tables=_size(keys.get("tables"), "tables", slots, parse_file_size),
        without_tables=_size(keys.get("without_tables"), "without_tables", slots, parse_file_size),
        kld=_kld(keys.get("kld"), slots),
        ties=tuple(_tie(item, slots) for item in read.items(keys.get("ties"), "ties")),
    )


def merge_budgets(own: Budget | None, inherited: Budget | None) -> Budget | None:
    """Return the budget of a recipe that has one of its own and inherits one."""
    if own is None or inherited is None:
        return own or inherited
    limits = own if own.limited else inherited
    return Budget(
        origin=limits.origin,
        size=limits.size,
        bpw=limits.bpw,
        vram=limits.vram,
        ram=limits.ram,
        active=limits.active,
        tables=limits.tables,
        without_tables=limits.without_tables,
        kld=limits.kld,
        ties=own.ties or inherited.ties,
        speed=limits.speed,
    )


def budget_keys(budget: Budget) -> dict[str, Any]:
    """Return the budget as the key `budget` has it, with sizes in bytes."""
    vram = budget.vram
    said: dict[str, Any] = {
        "size": budget.size,
        "bpw": budget.bpw,
        "vram": None if vram is None else _given({it.name: getattr(vram, it.name) for it in fields(vram)}),
        "ram": budget.ram,
        "active": budget.active,
        "tables": budget.tables,
        "without_tables": budget.without_tables,
        "kld": budget.kld,
        "ties": [[str(pattern) for pattern in tie] for tie in budget.ties] or None,
    }
    return _given(said)


def written_budget(budget: Budget) -> dict[str, Any]:
    """Return the same for a text that is read again: a size of few bytes gets its unit, so that it isn't misread."""
    said = budget_keys(budget)
    small = {key: f"{it}B" for key in _OF_FILES if (it := said.get(key, _BYTES_FROM)) < _BYTES_FROM}
    return said | small


def _given(said: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in said.items() if value is not None}


def _filled(
    node: Node | None, key: str, slots: Slots, types: Sequence[VariableType], wanted: str, example: str
) -> Node | None:
    """Return the node with its variable filled in, if it is a number, or, where sizes are taken, a text."""
    node = slots.uses.fill(node, key, *types)
    if node is None or node.kind == "number" or (node.kind == "text" and "size" in types):
        return node
    slots.read.add(node, f"{key} must be {wanted}", f"write {key}: {example}")
    return None


def _size(node: Node | None, key: str, slots: Slots, parse: Callable[[str | float], int]) -> int | None:
    """Read a number of bytes; `parse` knows whether it is of a file or of a memory."""
    node = _filled(node, key, slots, ["size"], "a size", "5.2GiB, or 500M")
    return None if node is None else slots.read.attempt(node, partial(parse, node.value), f"{key}: ")


def _tokens(node: Node | None, key: str, slots: Slots) -> int | None:
    node = _filled(node, key, slots, ["number", "size"], "a number of tokens", "8192, or 8k")
    return None if node is None else slots.read.attempt(node, partial(parse_tokens, node.value), f"{key}: ")


def _bpw(node: Node | None, slots: Slots) -> float | None:
    wanted = f"a number of bits, more than 0 and at most {_MAX_BPW}"
    node = _filled(node, "bpw", slots, ["number"], wanted, "4.5")
    if node is not None and not 0 < node.value <= _MAX_BPW:
        slots.read.add(node, f"bpw must be {wanted}", "write bpw: 4.5")
        return None
    return None if node is None else float(node.value)


def _kld(node: Node | None, slots: Slots) -> float | None:
    wanted = "a mean KL divergence in nats, more than 0"
    node = _filled(node, "kld", slots, ["number"], wanted, "0.01")
    if node is not None and not (node.value > 0 and math.isfinite(node.value)):
        slots.read.add(node, f"kld must be {wanted}", "write kld: 0.01")
        return None
    return None if node is None else float(node.value)


def _vram(node: Node | None, slots: Slots) -> VramBudget | None:
    if node is None:
        return None
    if node.kind in ("text", "number"):
        total = _size(node, "vram", slots, parse_memory)
        return None if total is None else VramBudget(total=total)
    read = slots.read
    keys = read.mapping(node, "vram", VRAM_KEYS)
    if keys is None:
        return None
    if "total" not in keys:
        read.add(node, "vram has no `total`", "say how much the GPU has: {total: 12GiB, context: 32768}")
    total = _size(keys.get("total"), "total", slots, parse_memory)
    said = {
        "context": _tokens(keys.get("context"), "context", slots),
        "kv": read.choice(slots.uses.fill(keys.get("kv"), "kv", "text"), "kv", KV_TYPES),
        "layers": _count(keys.get("layers"), "layers", "layers", slots),
        "experts": read.choice(keys.get("experts"), "experts", EXPERT_PLACES),
        "ubatch": _count(keys.get("ubatch"), "ubatch", "tokens", slots),
    }
    return None if total is None else VramBudget(total=total, **_given(said))


def _count(node: Node | None, key: str, unit: str, slots: Slots) -> int | None:
    wanted = f"a whole number of {unit}, more than 0"
    node = _filled(node, key, slots, ["number"], wanted, "512")
    if node is not None and (not isinstance(node.value, int) or node.value <= 0):
        slots.read.add(node, f"{key} must be {wanted}", f"write {key}: 512")
        return None
    return None if node is None else node.value


def _tie(node: Node, slots: Slots) -> tuple[Pattern, ...]:
    if node.kind not in ("list", "text"):
        slots.read.add(node, "a tie is a list of patterns", "write [attn_q, attn_k, attn_v]")
        return ()
    return slots.patterns(node, "ties")
