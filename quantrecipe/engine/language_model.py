"""A language model in llama.cpp: text to tokens, chunks of tokens to logits; and what happens within.

Chunks are run as llama-perplexity and llama-imatrix run them: each from an empty cache, several side by side as
sequences of one batch, the first token replaced by the beginning-of-sequence token where the vocabulary asks for one.
Logits are taken for the second half, so that every scored token has at least half a chunk of context.

A model stays open for as many questions as there are. Between them its weights may be exchanged (`swap`), and while
chunks run, the inputs of its matrices be seen (`run`); both need what `graph` describes.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from time import perf_counter, thread_time
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from quantrecipe.core.processors import usable_processors
from quantrecipe.engine.bindings import VOCAB_TYPE_NONE, Llama, captured_log, last_words
from quantrecipe.engine.generation import generate, likeliest, side_by_side_for
from quantrecipe.engine.graph import Callback, Ggml, Watch, Weight
from quantrecipe.engine.libraries import Engine
from quantrecipe.engine.structs import StructError
from quantrecipe.errors import EvaluationError

if TYPE_CHECKING:
    from types import TracebackType

    from numpy.typing import NDArray

    from quantrecipe.engine.generation import Choose, Tokens

__all__ = ["SCORED_AT_ONCE", "LanguageModel", "ModelFacts", "scored_positions"]

_ALL_LAYERS = 999
"""More than any model has: what means all of them to every llama.cpp, while -1 does so only to those since 2026."""

_UBATCH_TOKENS = 512  # llama_context_default_params, of all versions: tokens that are computed at a time
_ROUNDED_UP = ("n_ctx", "n_batch")
_PADDING = 256  # tokens of a sequence, at most: llama-context.cpp and llama-kv-cache.cpp

_MOST_SEQUENCES = 64
"""Of a batch: LLAMA_MAX_SEQ (llama-cparams.h) of the builds of 2025; later ones take 256, the earliest any number."""

_BATCH_TOKENS = 2048  # that are run at a time, as llama-perplexity does by default
_BATCH_BYTES = 256 << 20
"""Most bytes of logits at a time, unless the piece of a chunk that is looked at has more."""
SCORED_AT_ONCE = 512
"""Positions of a long chunk whose logits are looked at together: those that one computation of llama.cpp gives."""

_LONGEST_PIECE = 64  # bytes, of all but a few tokens

_UNTOUCHED = ("mapped", "repack", "aarch64", "split")
"""In the names of llama.cpp's buffers: what lies in them can't be written byte by byte."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelFacts:
    """What llama.cpp says of an open model.

    engine:    llama.cpp's version
    n_vocab:   tokens in its vocabulary
    n_ctx:     tokens of context that it was trained with, 0 where that isn't told
    """

    engine: str
    n_vocab: int
    n_ctx: int


def scored_positions(n_ctx: int) -> int:
    """Positions of a chunk that are scored: its second half, but for the last, whose next token isn't in it."""
    return n_ctx - 1 - n_ctx // 2


def _together(n_ctx: int, tokens: int) -> int:
    """How many chunks of n_ctx tokens a batch of so many tokens has."""
    return max(1, min(tokens // n_ctx, _MOST_SEQUENCES))


class LanguageModel:
    """A GGUF file in llama.cpp, open while used as a context manager. EvaluationError where it isn't to be run.

    engine:     whose libraries run it
    gpu_layers: layers that the GPU takes; None or -1 for all, where llama.cpp was built for one
    writable:   weights lie in memory of their own, as they are in the file, so that `swap` can replace them
    overrides:  what stands in the place of the model's own metadata: whole numbers, by key
    tell:       hears what llama.cpp logs
    """

    def __init__(
        self,
        path: Path,
        engine: Engine,
        *,
        threads: int | None = None,
        gpu_layers: int | None = None,
        writable: bool = False,
        overrides: Mapping[str, int] | None = None,
        tell: Callable[[str], object] | None = None,
    ) -> None:
        self.path = path
        self._engine, self._writable, self._overrides = engine, writable, overrides or {}
        self.threads = threads or usable_processors()
        self._gpu_layers = None if gpu_layers == -1 else gpu_layers
        self._tell = tell
        self._stack = ExitStack()
        self._kept: _Context | None = None
        self._watching: Callback | None = None
        self._weights: Mapping[str, Weight] | None = None
        self._replaced: dict[str, NDArray[np.uint8]] = {}

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
        if self._writable:
            llama.make_writable(parameters)
        kept = llama.set_overrides(parameters, self._overrides) if self._overrides else None
        self._model = llama.llama_model_load_from_file(os.fsencode(self.path), parameters)
        del kept
        if not self._model:
            raise EvaluationError(
                f"llama.cpp can't load it: {last_words(self._log) or 'it gives no reason'}", file=self.path
            )
        self._stack.callback(llama.llama_model_free, self._model)
        self._stack.callback(self._close_context)
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

    @property
    def facts(self) -> ModelFacts:
        """What llama.cpp says of the model."""
        known = self._llama.has("llama_model_n_ctx_train")
        return ModelFacts(
            engine=self._llama.version,
            n_vocab=self.n_vocab,
            n_ctx=max(0, self._llama.llama_model_n_ctx_train(self._model)) if known else 0,
        )

    def tokenize(self, text: bytes, *, special: bool = False) -> Tokens:
        """The tokens of a text, with what the vocabulary puts before it.

        special: whether markup in it, such as <|im_start|>, is what it stands for; else it is text
        """
        tokens = np.empty(len(text) + 8, np.int32)
        pointer = tokens.ctypes.data_as(ctypes.POINTER(ctypes.c_int32))
        count = self._llama.llama_tokenize(self._vocab, text, len(text), pointer, len(tokens), True, special)
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

    def pieces(self, tokens: Tokens) -> list[bytes]:
        """The text of each token, that of special tokens such as <|im_end|> included."""
        if not self._llama.has("llama_token_to_piece"):
            what = "this llama.cpp can't turn tokens into text: it lacks llama_token_to_piece"
            raise EvaluationError(what, "use a newer one", file=self._engine.library)
        known: dict[int, bytes] = {}
        for token in np.unique(tokens).tolist():
            buffer = ctypes.create_string_buffer(_LONGEST_PIECE)
            size = self._llama.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, True)
            if size < 0:
                buffer = ctypes.create_string_buffer(-size)
                size = self._llama.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, True)
            known[token] = buffer.raw[: max(0, size)]
        return [known[token] for token in tokens.tolist()]

    @property
    def first_token(self) -> int | None:
        """The token that the vocabulary puts before every text; None where it puts none there."""
        if not self._llama.llama_vocab_get_add_bos(self._vocab):
            return None
        return int(self._llama.llama_vocab_bos(self._vocab))

    def generate(
        self,
        prompts: Sequence[Tokens],
        n: int,
        *,
        side_by_side: int | None = None,
        longest: int | None = None,
        choose: Choose = likeliest,
        keep_shape: bool = True,
    ) -> Iterator[Tokens]:
        """A token after each prompt, one after that, and so on: int32 (≤ n,) for each prompt, in their order.

        prompts:      int32 (tokens,) each, at least one token long
        n:            the most tokens of an answer; it ends before a token that ends a text (end of generation), where
                      llama.cpp can say which these are
        side_by_side: prompts that are answered at a time; None for as many as fit well. Engines round differently for
                      another number, so that answers are compared only where it is the same
        longest:      tokens of a prompt and its answer that there is room for; None for those of the longest
        choose:       which token is taken, from the logits and the numbers of the prompts; the likeliest by default
        keep_shape:   see `generation`

        EvaluationError where the model gives NaN, or the context doesn't fit into memory.
        """
        longest = longest or max(map(len, prompts), default=0) + n
        together = side_by_side_for(len(prompts), longest) if side_by_side is None else side_by_side
        shape = _Shape(n_ctx=longest, side_by_side=together, n_batch=min(_UBATCH_TOKENS, together * longest))
        llama = self._llama

        def run(
            tokens: Tokens, positions: Tokens, sequences: Tokens, wanted: NDArray[np.bool_]
        ) -> NDArray[np.float32]:
            context = self._context(shape, watched=False)
            if llama.llama_decode(
                context.handle, context.batch.fill_with(tokens, positions, sequences, wanted)
            ):
                what = last_words(self._log) or "it gives no reason"
                raise EvaluationError(f"llama.cpp can't go on with a prompt: {what}", file=self.path)
            if not wanted.any():
                return np.empty((0, self.n_vocab), np.float32)
            pointer = llama.llama_get_logits(context.handle)
            logits = np.ctypeslib.as_array(pointer, (int(wanted.sum()), self.n_vocab))
            if not np.isfinite(logits).all():
                what = "it gives NaN or Inf for logits: the file is broken, or llama.cpp computes it wrongly here"
                raise EvaluationError(what, "`quantrecipe verify` looks into the weights", file=self.path)
            return logits

        def ends(token: int) -> bool:
            return llama.has("llama_vocab_is_eog") and bool(llama.llama_vocab_is_eog(self._vocab, token))

        for first in range(0, len(prompts), together):

            def numbered(logits: NDArray[np.float32], sequences: Tokens, first: int = first) -> Tokens:
                return choose(logits, sequences + np.int32(first))

            llama.clear(self._context(shape, watched=False).handle)
            yield from generate(
                *(run, ends, prompts[first : first + together], n),
                n_batch=shape.n_batch,
                choose=numbered,
                keep_shape=keep_shape,
            )

    def logits(
        self, chunks: Tokens, *, side_by_side: int | None = None, n_ubatch: int = _UBATCH_TOKENS
    ) -> Iterator[NDArray[np.float32]]:
        """chunks: int32 (n, n_ctx) → for each, float32 (scored positions, n_vocab), valid until the next.

        Of a chunk whose logits take more room than `_BATCH_BYTES`, pieces of `SCORED_AT_ONCE` positions, and what is
        left of them.

        side_by_side: chunks that are run at a time; None for as many as fit well
        n_ubatch:     tokens that are computed at a time. Both change how an engine rounds, and nothing else
        """
        if not len(chunks):
            return
        n_ctx = chunks.shape[1]
        scored = scored_positions(n_ctx)
        if scored > SCORED_AT_ONCE and scored * self.n_vocab * 4 > _BATCH_BYTES:
            yield from self._streamed(chunks, n_ubatch)
            return
        if side_by_side is None:
            by_bytes = _BATCH_BYTES // (scored * self.n_vocab * 4)
            side_by_side = max(1, min(_together(n_ctx, _BATCH_TOKENS), by_bytes, len(chunks)))
        shape = _Shape(
            n_ctx=n_ctx, side_by_side=side_by_side, n_batch=side_by_side * n_ctx, n_ubatch=n_ubatch
        )
        context = self._context(shape, watched=False)
        position = np.arange(n_ctx)
        wanted = (position >= n_ctx - 1 - scored) & (position < n_ctx - 1)
        for first in range(0, len(chunks), side_by_side):
            some = self._begun(chunks[first : first + side_by_side])
            self._decode(context, some, wanted, number=first + 1)
            pointer = self._llama.llama_get_logits(context.handle)
            if not pointer:
                what = "is no language model that can be evaluated: it gives no logits"
                raise EvaluationError(what, file=self.path)
            yield from np.ctypeslib.as_array(pointer, (len(some), scored, self.n_vocab))

    def _streamed(self, chunks: Tokens, n_ubatch: int) -> Iterator[NDArray[np.float32]]:
        """Logits of long chunks, piece after piece, so that llama.cpp and we hold no more than one."""
        n_ctx = chunks.shape[1]
        first = n_ctx - 1 - scored_positions(n_ctx)
        shape = _Shape(
            n_ctx=n_ctx, side_by_side=1, n_batch=max(_BATCH_TOKENS, SCORED_AT_ONCE), n_ubatch=n_ubatch
        )
        context = self._context(shape, watched=False)
        before = [*range(0, first, shape.n_batch), *range(first, n_ctx - 1, SCORED_AT_ONCE)]
        for number, chunk in enumerate(self._begun(chunks), 1):
            self._llama.clear(context.handle)
            for start, stop in pairwise([*before, n_ctx - 1]):
                part = chunk[start:stop]
                positions = np.arange(start, stop, dtype=np.int32)
                wanted = np.full(len(part), start >= first)
                batch = context.batch.fill_with(part, positions, np.zeros(len(part), np.int32), wanted)
                if status := self._llama.llama_decode(context.handle, batch):
                    what = last_words(self._log) or f"it answers {status}"
                    raise EvaluationError(f"llama.cpp can't run chunk {number}: {what}", file=self.path)
                if start >= first:
                    pointer = self._llama.llama_get_logits(context.handle)
                    yield np.ctypeslib.as_array(pointer, (len(part), self.n_vocab))

    def side_by_side(self, n_ctx: int) -> int:
        """How many chunks of n_ctx tokens `run` computes at a time, where there are as many."""
        return _together(n_ctx, self._most_tokens)

    def run(self, chunks: Tokens, watch: Watch) -> None:
        """Run chunks, int32 (n, n_ctx), for what `watch` sees of them; n is at most `side_by_side`.

        Every position counts, as in llama-imatrix. What `watch` raises is raised here.
        """
        n_ctx = chunks.shape[1]
        context = self._context(self._shape(n_ctx), watched=True)
        callback = self._callback
        callback.watch = watch
        try:
            # Outputs are wanted of all positions, since those that aren't leave out the last layer, too.
            self._decode(context, self._begun(chunks), np.ones(n_ctx, np.bool_), number=1)
        finally:
            callback.watch = None

    def process(self, chunks: Tokens) -> None:
        """Run chunks like `run`, for nothing but the time that it takes: with the last token of each as output."""
        n_ctx = chunks.shape[1]
        context = self._context(self._shape(n_ctx), watched=False)
        self._decode(context, self._begun(chunks), np.arange(n_ctx) == n_ctx - 1, number=1)

    def times(self, prompt: int, answer: int) -> tuple[float, list[float]]:
        """How long a prompt of so many tokens takes, and each token of an answer after it: seconds.

        Tokens are drawn by lot, always the same. One runs before, untimed, since the first of a context allocates.
        EvaluationError where the model doesn't run.
        """
        tokens = np.random.default_rng(0).integers(0, self.n_vocab, prompt + answer).astype(np.int32)
        shape = _Shape(n_ctx=prompt + answer, side_by_side=1, n_batch=min(_UBATCH_TOKENS, prompt + answer))
        context = self._context(shape, watched=False)
        self._llama.clear(context.handle)
        self._timed(context, tokens[:1], 0)
        self._llama.clear(context.handle)
        starts = range(0, prompt, shape.n_batch)
        whole = sum(self._timed(context, tokens[at : min(at + shape.n_batch, prompt)], at) for at in starts)
        return whole, [self._timed(context, tokens[at : at + 1], at) for at in range(prompt, prompt + answer)]

    def _timed(self, context: _Context, tokens: Tokens, start: int) -> float:
        """Seconds for tokens that stand here in the only sequence, with the logits of the last.

        A single thread is asked for the time that it worked: what others do on the machine isn't in that.
        """
        clock = thread_time if self.threads == 1 and self._gpu_layers == 0 else perf_counter
        count = len(tokens)
        positions = np.arange(start, start + count, dtype=np.int32)
        batch = context.batch.fill_with(
            tokens, positions, np.zeros(count, np.int32), np.arange(count) == count - 1
        )
        begin = clock()
        status = self._llama.llama_decode(context.handle, batch)
        self._llama.llama_get_logits(context.handle)  # waits for what a GPU still computes
        seconds = clock() - begin
        if status:
            what = last_words(self._log) or f"it answers {status}"
            raise EvaluationError(f"llama.cpp can't run it: {what}", file=self.path)
        return seconds

    def _shape(self, n_ctx: int) -> _Shape:
        """The same for any number of chunks: so a chunk's numbers don't depend on how many there were before."""
        most, side_by_side = self._most_tokens, self.side_by_side(n_ctx)
        return _Shape(n_ctx=n_ctx, side_by_side=side_by_side, n_batch=min(most, side_by_side * n_ctx))

    @property
    def _most_tokens(self) -> int:
        """Tokens that are run at a time, so that their logits, which nobody asked for, don't fill the memory."""
        return min(_BATCH_TOKENS, max(_UBATCH_TOKENS, _BATCH_BYTES // (self.n_vocab * 4)))

    @property
    def weights(self) -> Mapping[str, Weight]:
        """The tensors of the model that its graph uses, by name; found by running it over a few tokens."""
        if self._weights is None:
            ggml, found = self._ggml, dict[str, dict[int, Weight]]()

            def visit(address: int) -> None:
                for source in ggml.tensor(address).src:
                    if source and (tensor := ggml.tensor(source)).op == ggml.none and tensor.name:
                        weight = ggml.weight(source)
                        found.setdefault(weight.name, {})[source] = weight

            context = self._context(_Shape(n_ctx=_PADDING, side_by_side=1, n_batch=_PADDING), watched=True)
            self._callback.visit = visit
            try:
                few = self._begun(np.zeros((1, 2), np.int32))
                self._decode(context, few, np.ones(2, np.bool_), number=1)
            finally:
                self._callback.visit = None
            self._weights = {name: _in_one(list(places.values())) for name, places in found.items()}
        return self._weights

    def swap(self, name: str, data: NDArray[np.uint8]) -> None:
        """Replace the bytes of a weight, in the type that it has, until `restore`.

        EvaluationError where the graph has no such weight, it has another size, or it lies where it can't be written.
        """
        weight, data = self._writable_weight(name), data.reshape(-1).view(np.uint8)
        if data.nbytes != weight.nbytes:
            what = f"{name} has {weight.nbytes:,} bytes, and was to get {data.nbytes:,}"
            raise EvaluationError(what, file=self.path)
        if name not in self._replaced:
            self._replaced[name] = self._ggml.read(weight.address)
        self._write(weight, np.ascontiguousarray(data))

    def read(self, name: str, part: slice = slice(None)) -> NDArray[np.uint8]:
        """The bytes that a weight has now, or a part of them. EvaluationError as for `swap`."""
        return self._ggml.read(self._writable_weight(name).address, part)

    def write(self, name: str, data: NDArray[np.uint8], offset: int = 0) -> None:
        """Replace a part of a weight, from this byte on; nothing is kept for `restore`: whoever writes has the rest.

        For weights of which there is no room for a second copy. EvaluationError as for `swap`.
        """
        weight, data = self._writable_weight(name), data.reshape(-1).view(np.uint8)
        if not 0 <= offset <= weight.nbytes - data.nbytes:
            what = f"{name} has {weight.nbytes:,} bytes, and was to get {data.nbytes:,} at byte {offset:,}"
            raise EvaluationError(what, file=self.path)
        self._write(weight, np.ascontiguousarray(data), offset)

    def _writable_weight(self, name: str) -> Weight:
        weight = self.weights.get(name)
        if weight is None:
            what = f"llama.cpp doesn't use a tensor {name} for text, so it can't be exchanged"
            raise EvaluationError(what, file=self.path)
        if weight.passing or any(word in weight.buffer.lower() for word in _UNTOUCHED):
            what = f"llama.cpp has {name} in a buffer that can't be written ({weight.buffer})"
            remedy = "on several GPUs, let one take the whole model; or use a build for the CPU"
            raise EvaluationError(what, remedy, file=self.path)
        return weight

    def _write(self, weight: Weight, data: NDArray[np.uint8], offset: int = 0) -> None:
        for address in (weight.address, *weight.others):
            self._ggml.write(address, data, offset)

    def restore(self) -> None:
        """Give all weights that were replaced their own bytes again."""
        for name, data in self._replaced.items():
            self._write(self.weights[name], data)
        self._replaced.clear()

    @property
    def _ggml(self) -> Ggml:
        if self._watching is None:
            _ = self._callback
        return self._tensors

    @property
    def _callback(self) -> Callback:
        if self._watching is None:
            self._tensors = Ggml(self._llama)
            self._watching = Callback(self._tensors)
        return self._watching

    def _begun(self, chunks: Tokens) -> Tokens:
        """Chunks as they are run: the first token is the vocabulary's beginning of a sequence, if it asks for one."""
        chunks = chunks.copy()
        if self._llama.llama_vocab_get_add_bos(self._vocab):
            chunks[:, 0] = self._llama.llama_vocab_bos(self._vocab)
        return chunks

    def _decode(self, context: _Context, chunks: Tokens, wanted: NDArray[np.bool_], *, number: int) -> None:
        """Run chunks side by side from an empty cache, as many tokens of each at a time as the batch takes."""
        llama, n_ctx = self._llama, chunks.shape[1]
        step = max(1, min(n_ctx, context.shape.n_batch // len(chunks)))
        llama.clear(context.handle)
        callback = self._watching if context.watched else None
        for start in range(0, n_ctx, step):
            part = slice(start, min(start + step, n_ctx))
            calls = callback.calls if callback is not None else 0
            status = llama.llama_decode(
                context.handle, context.batch.fill(chunks[:, part], wanted[part], start)
            )
            if callback is not None:
                callback.check()
                if callback.calls == calls:
                    what = "a context doesn't call cb_eval, which stands in another place or isn't heeded"
                    raise llama.unknown(StructError(what))
            if status:
                what = last_words(self._log) or f"it answers {status}"
                raise EvaluationError(f"llama.cpp can't run chunk {number}: {what}", file=self.path)

    def _context(self, shape: _Shape, *, watched: bool) -> _Context:
        """A context for chunks of this shape: the one that is open, if it is one."""
        kept = self._kept
        if kept is not None and kept.shape == shape and kept.watched == watched:
            return kept
        self._close_context()
        callback = self._callback if watched else None  # before there is a context: it may refuse
        self._kept = _Context(
            shape=shape,
            watched=watched,
            handle=self._new_context(shape, callback),
            batch=_Batch(self._llama, shape.side_by_side * shape.n_ctx),
        )
        return self._kept

    def _close_context(self) -> None:
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.batch.free()
            self._llama.llama_free(kept.handle)

    def _new_context(self, shape: _Shape, callback: Callback | None) -> Any:
        llama = self._llama
        wanted = {
            "n_ctx": shape.side_by_side * shape.n_ctx,
            "n_batch": shape.n_batch,
            "n_ubatch": min(shape.n_ubatch, shape.n_batch),
            "n_seq_max": shape.side_by_side,
        }
        parameters = llama.llama_context_default_params()
        for name, value in wanted.items():
            parameters.set(llama.context[name], value)
        if callback is not None:
            llama.set_callback(parameters, callback.function)
        context = llama.llama_init_from_model(self._model, parameters)
        if not context:
            remedy = "a smaller context takes less memory; with a GPU, so do fewer --gpu-layers"
            what = last_words(self._log) or "it gives no reason"
            raise EvaluationError(f"llama.cpp can't make a context: {what}", remedy, file=self.path)
        self._check(context, wanted, shape.side_by_side)
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


def _in_one(places: Sequence[Weight]) -> Weight:
    """A weight that was seen at these addresses: itself rather than copies of it, with all others that are."""
    first, *others = sorted(places, key=lambda weight: weight.passing)
    same = [it.address for it in others if not it.passing and it.nbytes == first.nbytes]
    return replace(first, others=tuple(same))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Shape:
    """Of a context: chunks of n_ctx tokens, how many side by side, and how many tokens are run at a time.

    n_ubatch: tokens that are computed at a time
    """

    n_ctx: int
    side_by_side: int
    n_batch: int
    n_ubatch: int = _UBATCH_TOKENS


@dataclass(frozen=True, kw_only=True, slots=True)
class _Context:
    """A context of llama.cpp, and a batch for it. watched: it calls back for the nodes of its graph."""

    shape: _Shape
    watched: bool
    handle: Any
    batch: _Batch


class _Batch:
    """llama.cpp's batch of parts of several chunks, each a sequence."""

    def __init__(self, llama: Llama, size: int) -> None:
        self._llama, self._size = llama, size
        self._batch = llama.batch(size)
        self._array("n_seq_id")[:] = 1

    def fill(self, chunks: Tokens, wanted: NDArray[np.bool_], start: int) -> Any:
        """chunks: int32 (sequences, tokens), which stand at `start` of theirs; wanted: where outputs are."""
        length = chunks.shape[1]
        return self.fill_with(
            chunks.ravel(),
            np.tile(np.arange(start, start + length, dtype=np.int32), len(chunks)),
            np.repeat(np.arange(len(chunks), dtype=np.int32), length),
            np.tile(wanted, len(chunks)),
        )

    def fill_with(
        self, tokens: Tokens, positions: Tokens, sequences: Tokens, wanted: NDArray[np.bool_]
    ) -> Any:
        """Arrays of a value for each token: what it is, where in its sequence, in which, whether it has outputs."""
        count = len(tokens)
        self._batch.n_tokens = count
        self._array("token")[:count] = tokens
        self._array("pos")[:count] = positions
        self._array("logits")[:count] = wanted
        for number, sequence in enumerate(sequences.tolist()):
            self._batch.seq_id[number][0] = sequence
        return self._batch

    def free(self) -> None:
        self._llama.llama_batch_free(self._batch)

    def _array(self, name: str) -> NDArray[Any]:
        return np.ctypeslib.as_array(getattr(self._batch, name), (self._size,))
