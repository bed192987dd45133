"""A model whose graph is made of products with inputs that a test knows: what calibration sees, without llama.cpp.

Two layers. In each, q and k share an input, latent attention has a matrix for each of two heads, and a router shares
its input with the gate and up matrices of three experts, of which each token goes to two. What the down matrices get
comes from the tensor that q and k have, and isn't the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantrecipe.engine.language_model import ModelFacts

__all__ = [
    "COLUMNS",
    "EXPERTS",
    "HEADS",
    "VOCABULARY",
    "KnownProduct",
    "ModelOfProducts",
    "SessionOfProducts",
]

VOCABULARY, COLUMNS, EXPERTS, HEADS, USED = 100, 6, 3, 2, 2
_FACTS = ModelFacts(engine="none", n_vocab=VOCABULARY, n_ctx=64)


@dataclass
class KnownProduct:
    """What `engine.graph.Product` shows. rows: float32, four axes; input: which it is, before it was reshaped."""

    weight: str
    rows: NDArray[np.float32]
    input: str
    shape: tuple[int, int, int, int] = (COLUMNS, 5, 1, 1)
    kind: str = "product"
    experts: NDArray[np.int32] | None = None
    is_float32: bool = True

    @property
    def root(self) -> int:
        return hash(self.input)

    @property
    def key(self) -> tuple[object, ...]:
        return (self.input, self.kind, self.shape[0], self.shape[2:])

    @property
    def matrices(self) -> int:
        return self.shape[2] * self.shape[3]

    @property
    def used(self) -> int:
        return 1 if self.experts is None else self.experts.shape[1]

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self.rows.shape[::-1]

    def inputs(self) -> NDArray[np.float32]:
        return self.rows

    def chosen(self) -> NDArray[np.int32]:
        assert self.experts is not None
        return self.experts


@dataclass
class ModelOfProducts:
    """Runs its graph for every chunk as llama.cpp does: asks for each product, and shows those that are wanted.

    columns: of the inputs of q and k
    broken:  the chunk, by its first token, whose input is NaN at token 3
    large:   a factor of one column, to leave what float32 holds of squares
    computed: products that came to be computed, by weight
    """

    columns: int = COLUMNS
    broken: int | None = None
    large: float = 1.0
    path: Path = Path("model.gguf")
    n_vocab: int = VOCABULARY
    threads: int = 2
    computed: list[str] = field(default_factory=list)
    facts: ModelFacts = _FACTS

    def run(self, chunks: NDArray[np.int32], watch: Any) -> None:
        for chunk in chunks:
            graph = self.graph(chunk)
            for product in graph:
                self.computed.append(product.weight)
                if watch.wants(product) and not watch.see(product):
                    break
            for product in graph:  # the memory is used again for what comes next
                product.rows[...] = 1e9

    def side_by_side(self, n_ctx: int) -> int:
        return 2

    def tokenize(self, text: bytes, *, special: bool = False) -> NDArray[np.int32]:
        return np.frombuffer(text, np.uint8).astype(np.int32)

    def graph(self, chunk: NDArray[np.int32]) -> Sequence[KnownProduct]:
        rng = np.random.default_rng(chunk.tolist())
        tokens, found = len(chunk), list[KnownProduct]()

        def drawn(*shape: int) -> NDArray[np.float32]:
            return rng.standard_normal(shape).astype(np.float32)

        by_expert = (COLUMNS, 5, EXPERTS, 1)
        for layer in range(2):
            x = drawn(1, 1, tokens, self.columns)
            x[..., 1] *= np.float32(self.large)
            if self.broken is not None and chunk[0] == self.broken:
                x[0, 0, 2, 1] = np.nan
            heads, routed, down = (
                drawn(1, HEADS, tokens, COLUMNS),
                drawn(1, 1, tokens, COLUMNS),
                drawn(1, tokens, USED, COLUMNS),
            )
            few, chosen = drawn(1, 1, 3, COLUMNS), np.stack([chunk % 2, chunk % 2 + 1], 1).astype(np.int32)
            each, name = routed.reshape(1, tokens, 1, COLUMNS), f"blk.{layer}."
            found += [
                KnownProduct(f"{name}attn_q.weight", x, f"x{layer}", (self.columns, 5, 1, 1)),
                KnownProduct(f"{name}attn_k.weight", x, f"x{layer}", (self.columns, 5, 1, 1)),
                KnownProduct(f"{name}attn_k_b.weight", heads, f"heads{layer}", (COLUMNS, 5, HEADS, 1)),
                KnownProduct(f"{name}few.weight", few, f"few{layer}"),
                KnownProduct(f"{name}half.weight", x, f"half{layer}", is_float32=False),
                KnownProduct(f"cache_k_l{layer}", x, f"cache{layer}"),
                KnownProduct(f"{name}ffn_gate_inp.weight", routed, f"ffn{layer}"),
                *(
                    KnownProduct(
                        f"{name}{role}_exps.weight", each, f"ffn{layer}", by_expert, "by expert", chosen
                    )
                    for role in ("ffn_gate", "ffn_up")
                ),
                KnownProduct(
                    f"{name}ffn_down_exps.weight", down, f"x{layer}", by_expert, "by expert", chosen
                ),
            ]
        last = drawn(1, 1, tokens, COLUMNS)
        return [*found, KnownProduct("output.weight", last, "out", (COLUMNS, VOCABULARY, 1, 1))]


class SessionOfProducts:
    """In the place of `engine.session.Session`: the same calls, in this process, of a `ModelOfProducts`."""

    def __init__(self, model: ModelOfProducts) -> None:
        self.model = model
        self.opened = 0
        self.facts = model.facts

    def __call__(self, path: str | Path, **running: object) -> SessionOfProducts:
        return self

    def __enter__(self) -> SessionOfProducts:
        self.opened += 1
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def call(self, function: Any, *arguments: Any, hear: Any = None) -> Any:
        return function(self.model, *arguments, tell=hear or (lambda what: None))
