"""Files that quantrecipe has made, and what another program or bad luck does to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quantrecipe.gguf.header import TensorEntry, read_header
from quantrecipe.gguf.values import GGUFValue
from quantrecipe.gguf.write_header import encode_header
from quantrecipe.model.model import Model
from quantrecipe.model.open_model import open_model
from quantrecipe.output.apply import apply_plan
from quantrecipe.output.verify.verification import Finding, Verification
from quantrecipe.plan.plan import Plan
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe_text
from quantrecipe.registry import Registry
from support.models import llama_tensors, write_gguf

__all__ = ["MIX", "Made", "damaged", "findings", "made_file", "rewritten"]

MIX = """\
quantrecipe: 1
name: mix
default: Q8_0
rules:
  - {tensors: attn_v, type: Q6_K, why: values}
"""

Pairs = Mapping[str, GGUFValue]
Entries = Sequence[TensorEntry]


@dataclass(frozen=True)
class Made:
    """A file, the plan that made it, and the model that it was made from."""

    path: Path
    plan: Plan
    source: Model

    def assignment(self, name: str) -> Any:
        """What became of a tensor."""
        return next(a for a in self.plan.assignments if a.tensor.name == name)


def made_file(folder: Path, registry: Registry, text: str = MIX, *, experts: int = 0, **how: Any) -> Made:
    """A small llama of two layers, quantized by a recipe."""
    source = open_model(write_gguf(folder / "source.gguf", llama_tensors(experts=experts)))
    plan = make_plan(load_recipe_text(text, registry=registry), source, registry=registry, **how)
    return Made(apply_plan(plan, folder / "made.gguf", registry=registry).path, plan, source)


def damaged(path: Path, offset: int, byte: int | None = None) -> Path:
    """A copy with one other byte: this one, or one whose lowest bit is flipped."""
    raw = bytearray(path.read_bytes())
    raw[offset] = raw[offset] ^ 1 if byte is None else byte
    other = path.with_name("damaged.gguf")
    other.write_bytes(raw)
    return other


def rewritten(
    path: Path, change: Callable[[dict[str, GGUFValue], list[TensorEntry]], tuple[Pairs, Entries]]
) -> Path:
    """The same data behind another header."""
    header = read_header(path)
    metadata, tensors = change(dict(header.metadata), list(header.tensors))
    other = path.with_name("rewritten.gguf")
    other.write_bytes(
        encode_header(metadata, tensors, header.alignment) + path.read_bytes()[header.data_start :]
    )
    return other


def findings(verification: Verification, name: str) -> tuple[Finding, ...]:
    """What a check found."""
    (check,) = (check for check in verification.checks if check.name == name)
    return check.findings
