"""A language model whose tokens are bytes: what `imatrix self` runs, without llama.cpp."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantrecipe.engine.language_model import ModelFacts

__all__ = ["ByteModel", "SessionOfBytes"]

Tokens = NDArray[np.int32]

_END = 256
"""Of a vocabulary whose other tokens are bytes."""


class ByteModel:
    """Draws letters, each as likely as the others, and ends one time in forty; or says what `script` has."""

    n_vocab = 257
    path = Path("model.gguf")

    def __init__(self, script: Callable[[bytes], bytes] | None = None, n_ctx: int = 0) -> None:
        self.script = script
        self.facts = ModelFacts(engine="of bytes", n_vocab=self.n_vocab, n_ctx=n_ctx)
        self.asked: list[bytes] = []
        self.longest: set[int] = set()

    def tokenize(self, text: bytes, *, special: bool = False) -> Tokens:
        return np.frombuffer(text, np.uint8).astype(np.int32)

    def pieces(self, tokens: Tokens) -> list[bytes]:
        return [bytes([token]) for token in tokens.tolist()]

    def generate(
        self,
        prompts: Sequence[Tokens],
        n: int,
        *,
        side_by_side: int,
        longest: int,
        choose: Any,
        keep_shape: bool,
    ) -> Iterator[Tokens]:
        assert len(prompts) == side_by_side
        assert not keep_shape
        self.longest.add(longest)
        logits = np.full((1, self.n_vocab), -np.inf, np.float32)
        logits[0, 97:123] = 0
        logits[0, _END] = np.log(26 / 39)
        for number, prompt in enumerate(prompts):
            data = bytes(prompt.astype(np.uint8))
            assert len(data) + n <= longest
            self.asked.append(data)
            said: list[int] = []
            while self.script is None and len(said) < n:
                [token] = choose(logits, np.array([number], np.int32)).tolist()
                if token == _END:
                    break
                said.append(token)
            yield np.array(list(self.script(data))[:n] if self.script else said, np.int32)


class SessionOfBytes:
    """In the place of `engine.session.Session`: the same calls, in this process."""

    def __init__(self, model: ByteModel) -> None:
        self.model = model
        self.facts = model.facts

    def __call__(self, path: object, **running: object) -> SessionOfBytes:
        return self

    def __enter__(self) -> SessionOfBytes:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def call(self, function: Any, *arguments: Any, hear: Any) -> Any:
        return function(self.model, *arguments, tell=hear)
