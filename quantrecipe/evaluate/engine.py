"""A language model in llama.cpp: text to tokens, chunks of tokens to logits.

Chunks are run as llama-perplexity runs them: each from an empty cache, several side by side as sequences of one batch,
the first token replaced by the beginning-of-sequence token where the vocabulary asks for one, and logits taken for
the second half, so that every scored token has at least half a chunk of context.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from quantrecipe.core.processors import usable_processors
from quantrecipe.errors import EvaluationError
from quantrecipe.evaluate.bindings import VOCAB_TYPE_NONE, Llama, captured_log, last_words
from quantrecipe.evaluate.libraries import Engine
from quantrecipe.evaluate.reference import scored_positions

if TYPE_CHECKING:
    from types import TracebackType

    from numpy.typing import NDArray

    Tokens = NDArray[np.int32]

__all__ = ["LanguageModel"]

_ALL_LAYERS = 999
"""More than any model has: what means all of them to every llama.cpp, while -1 does so only to those since 2026."""

_UBATCH_TOKENS = 512  # llama_context_default_params, of all versions: tokens that are computed at a time
_ROUNDED_UP = ("n_ctx", "n_batch")
_PADDING = 256  # tokens of a sequence, at most: llama-context.cpp and llama-kv-cache.cpp

_BATCH_TOKENS = 2048  # that are run at a time, as llama-perplexity does by default
_BATCH_BYTES = 256 << 20
"""Most bytes of logits at a time, unless a single chunk has more."""


class LanguageModel:
    """A GGUF file in llama.cpp, open while used as a context manager. EvaluationError where it isn't to be run.

    engine:     whose libraries run it
    gpu_layers: layers that the GPU takes; None or -1 for all, where llama.cpp was built for one
    tell:       hears what llama.cpp logs
    """

    def __init__(
        self,
        path: Path,
        engine: Engine,
        *,
        n_ctx: int,
        threads: int | None = None,
        gpu_layers: int | None = None,
        tell: Callable[[str], object] | None = None,
    ) -> None:
        self.path, self.n_ctx = path, n_ctx
        self._engine = engine
        self.threads = threads or usable_processors()
        self._gpu_layers = None if gpu_layers == -1 else gpu_layers
        self._tell = tell
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with self._stack:
            self._open()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _open(self) -> None:
        self._llama = llama = Llama(self._engine)
        self._log = self._stack.enter_context(captured_log(llama, self._tell))
        llama.load_backends()
        llama.llama_backend_init()
        parameters = llama.llama_model_default_params()
        parameters.set(llama.gpu_layers, _ALL_LAYERS if self._gpu_layers is None else self._gpu_layers)
        self._model = llama.llama_model_load_from_file(os.fsencode(self.path), parameters)
        if not self._model:
            raise EvaluationError(
                f"llama.cpp can't load it: {last_words(self._log) or 'it gives no reason'}", file=self.path
            )
        self._stack.callback(llama.llama_model_free, self._model)
        self._vocab = llama.llama_model_get_vocab(self._model)
        self.n_vocab = int(llama.llama_vocab_n_tokens(self._vocab))
        reason = (
            "it has no vocabulary"
            if llama.llama_vocab_type(self._vocab) == VOCAB_TYPE_NONE or self.n_vocab <= 0
            else "it has an encoder, and predicts no text on its own"
            if llama.llama_model_has_encoder(self._model)
            else ""
        )
        if reason:
            raise EvaluationError(f"is no language model that can be evaluated: {reason}", file=self.path)

    def tokenize(self, text: bytes) -> Tokens:
        """The tokens of a text, with what the vocabulary puts before it; markup in it is text."""
        tokens = np.empty(len(text) + 8, np.int32)
        pointer = tokens.ctypes.data_as(ctypes.POINTER(ctypes.c_int32))
        count = self._llama.llama_tokenize(self._vocab, text, len(text), pointer, len(tokens), True, False)
        if count < 0:
            raise EvaluationError(
                f"llama.cpp can't cut the text into tokens (it answers {count})", file=self.path
            )
        return tokens[:count].copy()

    def vocabulary(self, tokens: Tokens) -> str:
        """A digest of the texts of the tokens that occur: the same for models that mean the same by them."""
        digest = hashlib.blake2b(str(self.n_vocab).encode(), digest_size=16)
        for token in np.unique(tokens).tolist():
            digest.update(b"\0%d:" % token + (self._llama.llama_vocab_get_text(self._vocab, token) or b""))
        return digest.hexdigest()

    def logits(self, chunks: Tokens) -> Iterator[NDArray[np.float32]]:
        """chunks: int32 (n, n_ctx) → for each, float32 (scored positions, n_vocab), valid until the next."""
        llama, scored = self._llama, scored_positions(self.n_ctx)
        by_bytes = _BATCH_BYTES // (scored * self.n_vocab * 4)
        side_by_side = max(1, min(_BATCH_TOKENS // self.n_ctx, by_bytes, len(chunks)))
        chunks = chunks.copy()
        if llama.llama_vocab_get_add_bos(self._vocab):
            chunks[:, 0] = llama.llama_vocab_bos(self._vocab)
        with ExitStack() as stack:
            context = self._context(side_by_side)
            stack.callback(llama.llama_free, context)
            batch = _Batch(llama, side_by_side, self.n_ctx, scored)
            stack.callback(batch.free)
            for first in range(0, len(chunks), side_by_side):
                some = chunks[first : first + side_by_side]
                llama.clear(context)
                if status := llama.llama_decode(context, batch.fill(some)):
                    what = last_words(self._log) or f"it answers {status}"
                    raise EvaluationError(f"llama.cpp can't run chunk {first + 1}: {what}", file=self.path)
                pointer = llama.llama_get_logits(context)
                if not pointer:
                    raise EvaluationError(
                        "is no language model that can be evaluated: it gives no logits", file=self.path
                    )
                yield from np.ctypeslib.as_array(pointer, (len(some), scored, self.n_vocab))

    def _context(self, side_by_side: int) -> Any:
        llama = self._llama
        n_tokens = side_by_side * self.n_ctx
        wanted = {
            "n_ctx": n_tokens,
            "n_batch": n_tokens,
            "n_ubatch": min(_UBATCH_TOKENS, n_tokens),
            "n_seq_max": side_by_side,
        }
        parameters = llama.llama_context_default_params()
        for name, value in wanted.items():
            parameters.set(llama.context[name], value)
        context = llama.llama_init_from_model(self._model, parameters)
        if not context:
            remedy = "a smaller --ctx takes less memory; with a GPU, so does --gpu-layers"
            what = last_words(self._log) or "it gives no reason"
            raise EvaluationError(f"llama.cpp can't make a context: {what}", remedy, file=self.path)
        self._check(context, wanted, side_by_side)
        llama.llama_set_n_threads(context, self.threads, self.threads)
        return context

    def _check(self, context: Any, wanted: Mapping[str, int], side_by_side: int) -> None:
        """EvaluationError where a context got something else: a field in another place shows as another number."""
        got = {name: getattr(self._llama, f"llama_{name}")(context) for name in wanted}
        for name, value in wanted.items():
            rounded_up = name in _ROUNDED_UP and value < got[name] < value + _PADDING * side_by_side
            # Until spring of 2025 the answer to llama_n_seq_max was the number of cells in the cache.
            cells = name == "n_seq_max" and got[name] == got["n_ctx"]
            if got[name] != value and not rounded_up and not cells:
                raise self._llama.unknown_context(name, got[name], value)


class _Batch:
    """llama.cpp's batch of several chunks; positions, sequences and wishes stay, tokens change."""

    def __init__(self, llama: Llama, side_by_side: int, n_ctx: int, scored: int) -> None:
        size = side_by_side * n_ctx
        self._llama, self._n_ctx = llama, n_ctx
        self._batch = llama.batch(size)
        position = np.tile(np.arange(n_ctx), side_by_side)
        np.ctypeslib.as_array(self._batch.pos, (size,))[:] = position
        np.ctypeslib.as_array(self._batch.n_seq_id, (size,))[:] = 1
        wanted = (position >= n_ctx - 1 - scored) & (position < n_ctx - 1)
        np.ctypeslib.as_array(self._batch.logits, (size,))[:] = wanted
        for number in range(size):
            self._batch.seq_id[number][0] = number // n_ctx

    def fill(self, chunks: Tokens) -> Any:
        """Fill the batch with these chunks."""
        self._batch.n_tokens = chunks.size
        np.ctypeslib.as_array(self._batch.token, (chunks.size,))[:] = chunks.ravel()
        return self._batch

    def free(self) -> None:
        self._llama.llama_batch_free(self._batch)
