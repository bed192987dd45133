"""A model whose graph a test makes, in the place of llama.cpp's: asked, computed up to what is wanted, shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantrecipe.engine.language_model import ModelFacts

VOCABULARY, COLUMNS, EXPERTS, HEADS = 100, 8, 4, 2


@dataclass
class Fake:
    """A product, as `graph` shows it. `rows`: float32, four axes."""

    weight: str
    rows: NDArray[np.float32]
    input: str
    shape: tuple[int, int, int, int] = (COLUMNS, 5, 1, 1)
    kind: str = "product"
    experts: NDArray[np.int32] | None = None
    is_float32: bool = True

    @property
    def key(self) -> tuple[object, ...]:
        return (self.input, self.kind, self.shape[0], self.shape[2:])

    @property
    def matrices(self) -> int:
        return self.shape[2] * self.shape[3]

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self.rows.shape[::-1]

    def inputs(self) -> NDArray[np.float32]:
        return self.rows

    def chosen(self) -> NDArray[np.int32]:
        assert self.experts is not None
        return self.experts


@dataclass
class FakeModel:
    """Runs a graph of fakes for every chunk, as llama.cpp would: asked, computed up to what is wanted, shown."""

    all_experts: bool = False
    broken: int | None = None  # the chunk whose inputs are NaN at token 3
    path: Path = Path("model.gguf")
    n_vocab: int = VOCABULARY
    seen: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    @property
    def facts(self) -> ModelFacts:
        return ModelFacts(engine="none", n_vocab=self.n_vocab, n_ctx=8192)

    def tokenize(self, text: bytes, *, special: bool = False) -> NDArray[np.int32]:
        return np.frombuffer(text, np.uint8).astype(np.int32)

    def side_by_side(self, n_ctx: int) -> int:
        return max(1, 2048 // n_ctx)

    def run(self, chunks: NDArray[np.int32], watch: Any) -> None:
        for chunk in chunks:
            for product in self.graph(chunk):
                self.asked.append(product.weight)
                if watch.wants(product):
                    self.seen.append(product.weight)
                    if not watch.see(product):
                        break

    def graph(self, chunk: NDArray[np.int32]) -> Sequence[Fake]:
        rng = np.random.default_rng(int(chunk.sum()))
        tokens = len(chunk)
        x = rng.standard_normal((1, 1, tokens, COLUMNS)).astype(np.float32)
        if self.broken is not None and chunk[0] == self.broken:
            x[0, 0, 2, 1] = np.nan
        few = rng.standard_normal((1, 1, 3, COLUMNS)).astype(np.float32)
        heads = rng.standard_normal((1, HEADS, tokens, COLUMNS)).astype(np.float32)
        routed = rng.standard_normal((1, tokens, 2, COLUMNS)).astype(np.float32)
        chosen = np.stack([chunk % (EXPERTS - 1), (chunk + 1) % (EXPERTS - 1)], 1).astype(np.int32)
        if self.all_experts:
            chosen = np.broadcast_to(np.arange(EXPERTS, dtype=np.int32), (tokens, EXPERTS))
            routed = np.repeat(routed[:, :, :1], EXPERTS, axis=2)
        stack, by_expert = (COLUMNS, 5, HEADS, 1), (COLUMNS, 5, EXPERTS, 1)
        return [
            Fake("token_embd.weight", x, "looked up", (COLUMNS, VOCABULARY, 1, 1), "lookup"),
            Fake("blk.0.attn_q.weight", x, "x"),
            Fake("blk.0.attn_k.weight", x, "x"),
            Fake("blk.0.attn_k_b.weight", heads, "heads", stack),
            Fake("blk.0.few.weight", few, "few"),
            Fake("blk.0.half.weight", x, "half", is_float32=False),
            Fake("cache_k", x, "cache"),
            Fake("blk.0.ffn_gate_exps.weight", routed[:, :, :1], "g", by_expert, "by expert", chosen),
            Fake("blk.0.ffn_up_exps.weight", routed[:, :, :1], "g", by_expert, "by expert", chosen),
            Fake("blk.0.ffn_down_exps.weight", routed, "d", by_expert, "by expert", chosen),
            Fake("output.weight", x, "out", (COLUMNS, VOCABULARY, 1, 1)),
        ]


def tensors() -> dict[str, NDArray[np.float32]]:
    """Weights of a model that has this graph."""
    stacks = {"attn_q": 1, "attn_k": 1, "attn_k_b": HEADS} | {
        f"ffn_{role}_exps": EXPERTS for role in ("gate", "up", "down")
    }
    found = {
        f"blk.0.{role}.weight": np.ones((count, 5, COLUMNS)[count == 1 :], np.float32)
        for role, count in stacks.items()
    }
    return found | {
        f"{role}.weight": np.ones((VOCABULARY, COLUMNS), np.float32) for role in ("token_embd", "output")
    }


class FakeSession:
    """Runs functions with a FakeModel, here: no process is started. `models` is every one that was made."""

    models: list[FakeModel] = []  # noqa: RUF012  # emptied by whoever uses it

    def __init__(self, path: Path, *, overrides: dict[str, int] | None = None, **running: object) -> None:
        self._model = FakeModel(path=path, all_experts=bool(overrides))
        self.models.append(self._model)
        self.facts = self._model.facts

    def __enter__(self) -> FakeSession:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def call(
        self, function: Callable[..., Any], *arguments: Any, hear: Callable[[Any], None] | None = None
    ) -> Any:
        return function(self._model, *arguments, tell=hear or (lambda what: None))
